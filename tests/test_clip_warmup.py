"""The video warm-up's batches equal what the policy sees; a few steps of it run."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_video import save_shades

from scripts.assets.clips.scene import FPS, NUM_FRAMES, Pool
from scripts.assets.models.gui_and_video.clip_run import (
    TAGS,
    ClipPlan,
    _score,
    load_start,
    warm_up_on_clips,
)
from scripts.assets.models.gui_and_video.clips import (
    FIND_PROMPT,
    SAMPLED,
    TRACK_PROMPT,
    ClipCollator,
    draw_clip,
    sampled_boxes,
    sampled_span,
    video_patches,
)
from vlrl.families.known import family_of
from vlrl.families.reading import Reader
from vlrl.types import Message, Sample, TextPart, VideoPart
from vlrl.video.track_answers import read_track

ROOT = Path(__file__).resolve().parent.parent
START = ROOT / "assets/models/tiny_qwen2_5_vl"


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_shades(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def pool(photograph: Path) -> Pool:
    return Pool.load(ROOT / "assets/images", [photograph])


@pytest.fixture(scope="module")
def start():
    torch.manual_seed(0)
    return load_start(START)


def collator(start, pool: Pool, thinking: float = 1.0) -> ClipCollator:
    model, processor = start
    return ClipCollator(
        processor,
        pool,
        tokens_per_second=model.config.vision_config.tokens_per_second,
        thinking=thinking,
    )


def test_tags_are_single_tokens_that_begin_as_their_pieces(start) -> None:
    model, processor = start
    for tag in TAGS:
        assert len(processor.tokenizer(tag)["input_ids"]) == 1
    vocabulary = model.get_input_embeddings().weight
    assert vocabulary.shape[0] % 64 == 0
    assert model.lm_head.weight.data_ptr() == vocabulary.data_ptr(), "still tied"
    assert torch.isfinite(vocabulary).all()


@pytest.mark.parametrize("thinking", [0.0, 1.0])
def test_a_sequence_is_what_the_policy_sees(start, pool: Pool, thinking: float) -> None:
    """Ids, positions and patches of a question, against the policy's own encoder."""
    model, processor = start
    own = collator(start, pool, thinking)
    clip = draw_clip(pool, random.Random(1))
    question = clip.questions[0]
    patches, grid = video_patches(clip.frames, processor)
    sequence = own.clip_sequence(grid, [question])
    prompt = FIND_PROMPT if thinking else TRACK_PROMPT
    full = np.repeat(clip.frames, 4, axis=0)
    part = VideoPart(full, 112, 112, FPS, NUM_FRAMES, SAMPLED)
    text = TextPart(prompt.format(sentence=question.sentence))
    encoder = Reader(family_of(model.config), processor, model, 1, 1 << 30)
    encoded = encoder.encode(Sample("q", "x", (Message("user", (part, text)),), None))
    n = encoded.num_tokens
    assert sequence["ids"][:n] == encoded.input_ids.tolist()
    assert np.array_equal(sequence["positions"][:, :n], encoded.positions.numpy())
    assert torch.allclose(patches, encoded.media["pixel_values"], atol=1e-5)
    # The answer continues where the policy's does.
    assert sequence["positions"][:, n].tolist() == [encoded.next_position] * 3
    assert all(label == -100 for label in sequence["labels"][:n])


def test_answers_are_right_and_every_number_is_looked_up(start, pool: Pool) -> None:
    _, processor = start
    own = collator(start, pool)
    for seed in range(10):
        clip = draw_clip(pool, random.Random(seed))
        question = clip.questions[0]
        _, grid = video_patches(clip.frames, processor)
        tokens, begin, looks = own.question_tokens(question, grid)
        answer = processor.tokenizer.decode(tokens[begin:-1])
        assert read_track(answer, "stvg_o1").well_formed
        assert _score(answer, question)[:3] == (1.0, 1.0, pytest.approx(1.0))
        first, last = sampled_span(question)
        boxes = sampled_boxes(question)
        assert len(boxes) == last - first + 1
        covers = {place: cover for place, _, cover in looks}
        assert all(cover.sum() >= 1 for cover in covers.values())
        # A coordinate's first digit is sought in the tokens of its own frame pair.
        place = next(p for p, s, _ in looks if s == 1.0 and tokens[p] == own._encode("[")[0])
        slices = covers[place].reshape(grid[0], -1).any(1)
        assert slices.tolist() == [k == first // 2 for k in range(grid[0])]


def test_scoring_of_broken_answers(pool: Pool) -> None:
    question = draw_clip(pool, random.Random(0)).questions[0]
    assert _score("nothing", question) == (0.0, 0.0, 0.0, None)
    whole = "<time>0-5</time><think_bbox></think_bbox><pred_bbox></pred_bbox>"
    formed, t_iou, v_iou, _ = _score(whole, question)
    assert formed == 0.0
    first, last = sampled_span(question)
    assert t_iou == pytest.approx((last - first + 1) / 6)
    assert v_iou == 0.0


def test_a_model_written_in_half_the_bytes(tmp_path: Path) -> None:
    plan = ClipPlan(START, tmp_path, Path(), [], [], steps=0, storage="float8")
    warm_up_on_clips(plan)
    size = (tmp_path / "model/model.safetensors").stat().st_size
    assert size < 0.51 * (START / "model.safetensors").stat().st_size
    before, _ = load_start(START)
    after, _ = load_start(tmp_path / "model")
    known = dict(before.named_parameters())
    for name, value in after.named_parameters():
        assert value.dtype == torch.float32
        # Rows that pad the vocabulary are drawn again each time the start is loaded.
        value, true = (
            rows[:704] if "embed_tokens" in name else rows for rows in (value, known[name])
        )
        if true.dim() > 1:
            # Three bits of mantissa; below 2^-6 steps of 2^-9.
            assert ((value - true).abs() <= true.abs() / 16 + 2**-10).all(), name
        else:
            assert torch.equal(value, true), name
    assert (tmp_path / "model/vlrl.json").is_file()


@pytest.mark.slow
def test_a_few_steps_of_the_warm_up(photograph: Path, tmp_path: Path) -> None:
    plan = ClipPlan(
        START, tmp_path, ROOT / "assets/images", [photograph], [photograph],
        steps=3, max_minutes=5, batch=1, turns=1, num_eval=2,
    )  # fmt: skip
    warm_up_on_clips(plan)
    model, processor = load_start(tmp_path / "model")
    assert len(processor.tokenizer("<think_bbox>")["input_ids"]) == 1
    assert model.config.text_config.vocab_size % 64 == 0
    assert "held_out" in (tmp_path / "warmup_log.jsonl").read_text(encoding="utf-8")
