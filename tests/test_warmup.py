"""The warm-up's collator, tokenizer, fast attention and saved model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from scripts.assets.models.gui_and_video.collate import IGNORED, TurnCollator, format_box, patchify
from scripts.assets.models.gui_and_video.data import augment, load_screens
from scripts.assets.models.gui_and_video.evaluate import (
    hit_rates,
    inference_prompt,
    is_hit,
    parse_box,
)
from scripts.assets.models.gui_and_video.model import (
    TAP,
    build_model,
    use_default_attention,
    use_fast_attention,
)
from scripts.assets.models.gui_and_video.tokenizer import (
    CLICK_PROMPT,
    build_processor,
    train_tokenizer,
)
from scripts.assets.models.gui_and_video.trainer import MuonWithAdam, pointer_loss, word_loss

ASSETS = Path(__file__).parents[1] / "assets" / "models" / "tiny_qwen2_5_vl"
WORDS = ["click the Save button", "Open settings", "12 34", 'tap the icon left of "Save"']
MODEL_INPUTS = (
    "input_ids",
    "position_ids",
    "attention_mask",
    "pixel_values",
    "image_grid_thw",
)
TARGETS = [
    {
        "instruction": "Save",
        "box": [10, 12, 60, 40],
        "kind": "label",
        "name": "Save",
        "element_type": "text",
    },
    {
        "instruction": "the star icon",
        "box": [84, 0, 112, 28],
        "kind": "icon",
        "name": "",
        "element_type": "text",
    },
    {
        "instruction": "the bottom link",
        "box": [5, 90, 50, 104],
        "kind": "region",
        "name": "x",
        "element_type": "text",
    },
]


@pytest.fixture(scope="module")
def processor() -> Qwen2_5_VLProcessor:
    return build_processor(train_tokenizer(WORDS, 288))


@pytest.fixture(scope="module")
def model(processor: Qwen2_5_VLProcessor) -> Qwen2_5_VLForConditionalGeneration:
    return build_model(processor.tokenizer, seed=0).eval()


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (112, 140, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "screen.png")
    return tmp_path / "screen.png"


def _collator(processor: Qwen2_5_VLProcessor) -> TurnCollator:
    return TurnCollator(processor, augment_strength=0.0)


def test_tokenizer_round_trip_and_single_digits(processor: Qwen2_5_VLProcessor) -> None:
    tokenizer = processor.tokenizer
    for text in [*WORDS, "[1,22,333,4]", "naïve “quotes” → 中"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    answer = tokenizer.convert_ids_to_tokens(tokenizer("[12,345,6,7]")["input_ids"])
    assert answer == list("[12,345,6,7]")
    assert len(tokenizer("<|im_end|>")["input_ids"]) == 1


def test_labels_are_exactly_the_answers(processor: Qwen2_5_VLProcessor, screen: Path) -> None:
    batch = _collator(processor)([{"image": str(screen), "targets": TARGETS}])
    kept = batch["labels"][0][batch["labels"][0] != IGNORED]
    answers = processor.tokenizer.decode(kept).split("<|im_end|>")[:-1]
    assert sorted(answers) == sorted(format_box(target["box"]) for target in TARGETS)
    assert (batch["labels"] == batch["input_ids"])[batch["labels"] != IGNORED].all()


def test_first_turn_is_the_inference_prompt(
    processor: Qwen2_5_VLProcessor, screen: Path, model: Qwen2_5_VLForConditionalGeneration
) -> None:
    """Same ids, same pixels and same positions as the processor and the model make."""
    batch = _collator(processor)([{"image": str(screen), "targets": TARGETS[:1]}])
    text = inference_prompt(processor, TARGETS[0]["instruction"])
    assert text.endswith(f"{CLICK_PROMPT.format(instruction='Save')}<|im_end|>\n"
                         "<|im_start|>assistant\n")  # fmt: skip
    wanted = processor(text=[text], images=[Image.open(screen)], return_tensors="pt")
    length = wanted["input_ids"].shape[1]
    assert torch.equal(batch["input_ids"][:, :length], wanted["input_ids"])
    assert (batch["labels"][0, :length] == IGNORED).all()
    torch.testing.assert_close(batch["pixel_values"], wanted["pixel_values"], atol=1e-5, rtol=0)
    assert torch.equal(batch["image_grid_thw"], wanted["image_grid_thw"])
    positions, _ = model.model.get_rope_index(
        wanted["input_ids"], wanted["mm_token_type_ids"], image_grid_thw=wanted["image_grid_thw"]
    )
    assert torch.equal(batch["position_ids"][:, :, :length], positions)


def test_questions_do_not_see_each_other(
    processor: Qwen2_5_VLProcessor, screen: Path, model: Qwen2_5_VLForConditionalGeneration
) -> None:
    """Logits of a packed question equal those of the question alone under default attention."""
    collator = _collator(processor)
    packed = collator([{"image": str(screen), "targets": TARGETS}])
    use_fast_attention(model)
    try:
        together = _answer_logits(model, packed)
    finally:
        use_default_attention(model)
    alone = {}
    for target in TARGETS:
        single = collator([{"image": str(screen), "targets": [target]}])
        single["attention_mask"] = torch.ones_like(single["input_ids"])
        alone |= _answer_logits(model, single)
    assert together.keys() == alone.keys()
    for answer, logits in together.items():
        torch.testing.assert_close(logits, alone[answer], atol=2e-4, rtol=1e-3)


def _answer_logits(
    model: Qwen2_5_VLForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> dict[tuple[int, ...], torch.Tensor]:
    inputs = {key: value for key, value in batch.items() if key in MODEL_INPUTS}
    labels = batch["labels"][0]
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits[0]
    places = (labels != IGNORED).nonzero().flatten()
    runs = torch.tensor_split(places, (places.diff() > 1).nonzero().flatten() + 1)
    return {tuple(labels[run].tolist()): logits[run] for run in runs}


def test_pointer_loss_falls_when_attention_is_on_the_element() -> None:
    cover = torch.tensor([[0.0, 1.0, 1.0, -1.0]])
    index = torch.tensor([[0, 4]])
    away, there = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
    away[0, 4, 1], there[0, 4, 2] = 9.0, 9.0
    assert pointer_loss([there], index, cover, 1).item() < 0.01
    assert pointer_loss([away], index, cover, 1).item() > 1


def test_word_loss_falls_when_image_tokens_spell_their_words() -> None:
    embeddings = torch.eye(6, 8)
    words, cover = torch.tensor([[0, 2], [1, 4]]), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, -1.0]])
    spelled = embeddings[[0, 2, 1, 4, 0]]
    counts = torch.tensor([3, 2])
    right = word_loss(spelled, counts, embeddings, words, cover)
    wrong = word_loss(spelled.flip(0), counts, embeddings, words, cover)
    assert right < 0.01 < wrong
    assert word_loss(spelled, counts, embeddings, words[:0], cover[:0]) == 0


def test_gradients_reach_the_eye(
    processor: Qwen2_5_VLProcessor, screen: Path, model: Qwen2_5_VLForConditionalGeneration
) -> None:
    collator = _collator(processor)
    batch = collator([{"image": str(screen), "targets": TARGETS}])
    index, cover = batch["pointer_index"], batch["pointer_cover"]
    inputs = {key: value for key, value in batch.items() if key in MODEL_INPUTS}
    use_fast_attention(model)
    TAP.scores, TAP.enabled = [], True
    try:
        loss = model(**inputs, labels=batch["labels"], use_cache=False).loss
        (loss + pointer_loss(TAP.scores, index, cover, len(collator.head)).mean()).backward()
    finally:
        TAP.scores, TAP.enabled = [], False
        use_default_attention(model)
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in model.parameters()
    )
    assert model.model.visual.patch_embed.proj.weight.grad.abs().sum() > 0
    model.zero_grad()


def test_muon_evens_out_singular_values() -> None:
    torch.manual_seed(0)
    for shape in ((32, 96), (96, 32)):
        matrix = torch.nn.Parameter(torch.zeros(shape))
        bias = torch.nn.Parameter(torch.zeros(8))
        optimizer = MuonWithAdam([("w", matrix), ("b", bias)], 1.0, 0.1, weight_decay=0.0)
        matrix.grad, bias.grad = torch.randn(shape), torch.ones(8)
        # Accelerate loads the optimizer's own state when it wraps it, and schedules come after.
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.param_groups[0]["lr"] *= 0.5
        optimizer.step()
        values = torch.linalg.svdvals(matrix.detach()) / (0.5 * 0.2 * 96**0.5)
        assert values.min() > 0.5
        assert values.max() < 1.4
        assert bias.tolist() == pytest.approx([-0.1] * 8)
        assert len(optimizer.state_dict()["state"]) == 2


def test_augmentation_keeps_boxes_on_their_pixels() -> None:
    """A marked rectangle is still exactly at the moved box."""
    import random

    from scripts.assets.models.gui_and_video.data import Target

    pixels = np.zeros((504, 280, 3), dtype=np.uint8)
    pixels[200:230, 100:160] = 255
    target = Target("it", (100, 200, 160, 230), "label", "it")
    generator = random.Random(0)
    for _ in range(50):
        image, kept = augment(pixels, [target], generator, strength=1.0)
        assert image.shape[0] % 28 == 0
        assert image.shape[1] % 28 == 0
        for moved in kept:
            x1, y1, x2, y2 = moved.box
            inside = image[y1:y2, x1:x2].reshape(-1, 3).astype(int)
            assert (inside == inside[0]).all()
            assert (image.reshape(-1, 3).astype(int) != inside[0]).any(axis=1).sum() == (
                image.shape[0] * image.shape[1] - 60 * 30
            )


def test_answers_are_parsed_and_scored() -> None:
    assert parse_box("[1,2,30,40]") == (1, 2, 30, 40)
    assert parse_box("[1,2,30]") is None
    assert parse_box("[30,2,1,40]") is None
    assert is_hit((0, 0, 10, 10), (4, 4, 8, 8))
    assert not is_hit((0, 0, 4, 4), (4, 4, 8, 8))
    assert not is_hit(None, (0, 0, 9, 9))


def test_saved_model_loads_offline_and_answers(screen: Path, tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(ASSETS, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(
        ASSETS, dtype=torch.float32, local_files_only=True
    )
    assert type(model) is Qwen2_5_VLForConditionalGeneration
    assert (ASSETS / "model.safetensors").stat().st_size < 15 * 2**20
    assert model.lm_head.weight is model.get_input_embeddings().weight
    row = {"image": screen.name, "instruction": "Save", "bbox": [1, 2, 9, 9], "kind": "label"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    rates = hit_rates(model, processor, load_screens(tmp_path / "rows.jsonl"))
    assert rates.count == 1
    assert set(rates.by_kind) == {"label"}


def test_patches_equal_the_processors(processor: Qwen2_5_VLProcessor, screen: Path) -> None:
    image = Image.open(screen)
    wanted = processor.image_processor(images=[image], return_tensors="pt")
    patches, grid = patchify(np.asarray(image), processor)
    torch.testing.assert_close(patches, wanted["pixel_values"], atol=1e-5, rtol=0)
    assert wanted["image_grid_thw"].tolist() == [[1, *grid]]
