"""Image rewards: real classes at tiny size against the formulas written out, and the contract."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers_images import (
    OPEN_CLIP,
    SCENES,
    noise_image,
    rollout,
    save_aesthetic_head,
    save_clip,
    save_detr,
    save_dinov2,
    save_open_clip,
)
from PIL import Image

from vlrl.errors import ConfigError, RewardError
from vlrl.reward.tree import build_reward
from vlrl.types import Score

ROOT = Path(__file__).resolve().parent.parent
CAPTIONS = ("a cat", "two red dogs", "a cat", "nothing at all, really", "sun")
PICTURE_REWARDS = (
    "clip_score",
    "pick_score",
    "hps_v2",
    "aesthetic",
    "ocr_match",
    "dino_similarity",
    "jpeg_compressibility",
    "geneval",
)
MODELS = ("clip", "open_clip", "pick", "hps", "aesthetic", "dino", "geneval")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Config nodes of every reward with a model, on tiny checkpoints."""
    base = tmp_path_factory.mktemp("models")
    clip = str(save_clip(base / "clip"))
    wide = str(save_clip(base / "wide", width=768))
    folder = save_open_clip(base / "open_clip")
    head = str(save_aesthetic_head(base / "head.pth"))
    detector = str(save_detr(base / "detr"))
    dino = str(save_dinov2(base / "dino"))
    local = {"library": "open_clip", "model": f"local-dir:{folder}"}
    scored = {
        "clip": {"use": "clip_score", "model": clip},
        "open_clip": {"use": "clip_score", **local},
        "pick": {"use": "pick_score", "model": clip, "processor": clip},
        "hps": {
            "use": "hps_v2",
            "model": OPEN_CLIP,
            "checkpoint": str(base / "weights.pt"),
        },
        "aesthetic": {"use": "aesthetic", "model": wide, "head": head},
        "dino": {"use": "dino_similarity", "model": dino},
        "geneval": {"use": "geneval", "detector": detector, "model": clip, "threshold": 0.2},
    }
    return {name: {**node, "device": "cpu"} for name, node in scored.items()}


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> list:
    """Five images of several sizes, with everything that a reward may need."""
    folder = tmp_path_factory.mktemp("references")
    for i in range(3):
        Image.fromarray(noise_image(90 + i, 33, 44)).save(folder / f"{i}.png")
    paths = [str(folder / f"{i}.png") for i in range(3)]
    sizes = ((40, 52), (64, 64), (40, 52), (30, 30), (97, 51))
    return [
        rollout(
            noise_image(i, *size),
            i,
            caption=caption,
            references=tuple(paths[: 1 + i % 3]),
            scene=SCENES[i % 3],
        )
        for i, (size, caption) in enumerate(zip(sizes, CAPTIONS, strict=True))
    ]


def values(node: dict, given_rollouts: list) -> list[float | None]:
    """The values alone."""
    return [score.value for score in build_reward(node)(given_rollouts)]


def unit(features: torch.Tensor) -> torch.Tensor:
    """Rows of length 1."""
    return features / features.norm(dim=-1, keepdim=True)


# --- the formulas, written out -----------------------------------------------------------------


def embeddings(model: str, images: list, captions: tuple) -> tuple:
    """Both towers of a transformers checkpoint, one image and one caption at a time."""
    from transformers import CLIPModel, CLIPProcessor

    clip = CLIPModel.from_pretrained(model).eval()
    processor = CLIPProcessor.from_pretrained(model)
    seen, read = [], []
    with torch.no_grad():
        for image, caption in zip(images, captions, strict=True):
            both = processor(text=[caption], images=[Image.fromarray(image)], return_tensors="pt")
            out = clip(**both)
            seen.append(out.image_embeds[0])
            read.append(out.text_embeds[0])
    return torch.stack(seen), torch.stack(read), clip


def test_clip_score_is_the_models_own_cosine(nodes, rollouts):
    images = [one.parsed.image for one in rollouts]
    seen, read, _ = embeddings(nodes["clip"]["model"], images, CAPTIONS)
    expected = (seen * read).sum(-1)
    found = values(nodes["clip"], rollouts)
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    assert max(found) - min(found) > 0.05


@pytest.mark.parametrize("divide_by", [26.0, 1.0])
def test_pick_score_is_the_scaled_cosine(nodes, rollouts, divide_by):
    images = [one.parsed.image for one in rollouts]
    seen, read, clip = embeddings(nodes["pick"]["model"], images, CAPTIONS)
    expected = clip.logit_scale.exp().item() * (seen * read).sum(-1) / divide_by
    node = {**nodes["pick"], "divide_by": divide_by}
    assert values(node, rollouts) == pytest.approx(expected.tolist(), abs=1e-4)
    assert build_reward(node).range == (-100 / divide_by, 100 / divide_by)


def test_pick_score_refuses_a_scale_beyond_its_range(nodes, rollouts):
    node = {**nodes["pick"], "logit_scale": 10.0}  # the tiny model has 14.3
    with pytest.raises(RewardError, match="set logit_scale"):
        build_reward(node)(rollouts)


def test_open_clip_and_hps(nodes, rollouts):
    import open_clip
    from open_clip import transform

    model, shortest = open_clip.create_model_from_pretrained(nodes["open_clip"]["model"])
    model.eval()
    tokens = open_clip.get_tokenizer(nodes["open_clip"]["model"])(list(CAPTIONS))
    longest = transform.image_transform_v2(
        transform.PreprocessCfg(size=32, resize_mode="longest"), is_train=False
    )
    for node, resize in (("open_clip", shortest), ("hps", longest)):
        pixels = torch.stack([resize(Image.fromarray(one.parsed.image)) for one in rollouts])
        with torch.no_grad():
            seen = unit(model.encode_image(pixels))
            read = unit(model.encode_text(tokens))
        expected = (seen * read).sum(-1).tolist()
        assert values(nodes[node], rollouts) == pytest.approx(expected, abs=1e-5)
    # As published: numbers are resized, without antialiasing.
    from torchvision.transforms import functional

    side, published = 32, []
    for one in rollouts:
        values_ = torch.from_numpy(one.parsed.image.copy()).permute(2, 0, 1) / 255
        height, width = (round(s * side / max(values_.shape[1:])) for s in values_.shape[1:])
        bicubic = functional.InterpolationMode.BICUBIC
        small = functional.resize(values_, [height, width], bicubic, antialias=False)
        left, top = (side - width) // 2, (side - height) // 2
        small = functional.pad(small, [left, top, side - width - left, side - height - top])
        facts = transform.PreprocessCfg()
        published.append(functional.normalize(small, facts.mean, facts.std))
    with torch.no_grad():
        seen = unit(model.encode_image(torch.stack(published)))
    expected = (seen * read).sum(-1).tolist()
    found = values({**nodes["hps"], "published": True}, rollouts)
    assert found == pytest.approx(expected, abs=1e-5)
    assert found != pytest.approx(values(nodes["hps"], rollouts), abs=1e-5)
    # The two ways to resize differ wherever an image is not square.
    one, other = values(nodes["open_clip"], rollouts), values(nodes["hps"], rollouts)
    assert abs(one[4] - other[4]) > 1e-3
    assert one[1] == pytest.approx(other[1], abs=1e-5)


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_open_clip_weights_by_name_and_file(nodes, rollouts, file):
    weights = Path(nodes["hps"]["checkpoint"]).with_name(file)
    node = {"use": "clip_score", "library": "open_clip", "model": OPEN_CLIP, "device": "cpu"}
    named = values({**node, "pretrained": str(weights)}, rollouts)
    assert named == pytest.approx(values(nodes["open_clip"], rollouts), abs=1e-6)


@pytest.mark.parametrize("scale", ["unit", "rating"])
def test_aesthetic_is_the_predictor_on_the_unit_embedding(nodes, rollouts, scale):
    images = [one.parsed.image for one in rollouts]
    seen, _, _ = embeddings(nodes["aesthetic"]["model"], images, CAPTIONS)
    weights = torch.load(nodes["aesthetic"]["head"], weights_only=True)
    rating = unit(seen)
    for place in (0, 2, 4, 6, 7):
        rating = rating @ weights[f"layers.{place}.weight"].T + weights[f"layers.{place}.bias"]
    expected = rating[:, 0].clamp(0, 10) / (10 if scale == "unit" else 1)
    found = values({**nodes["aesthetic"], "scale": scale}, rollouts)
    assert found == pytest.approx(expected.tolist(), abs=1e-4)
    assert max(found) - min(found) > 0.001


def test_aesthetic_needs_the_clip_it_was_trained_on(nodes, rollouts):
    with pytest.raises(RewardError, match=r"gives 24 numbers .* takes 768"):
        build_reward({**nodes["aesthetic"], "model": nodes["clip"]["model"]})(rollouts)


def dino_feature(model: str, image: np.ndarray) -> torch.Tensor:
    """CLS of a whole image squeezed to 56 x 56, with Pillow in place of torch."""
    from transformers import Dinov2Model

    small = Image.fromarray(image).resize((56, 56), Image.Resampling.BICUBIC)
    pixels = torch.tensor(np.asarray(small)).permute(2, 0, 1)[None] / 255
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        hidden = Dinov2Model.from_pretrained(model).eval()((pixels - mean) / std).last_hidden_state
    return unit(hidden[0, 0])


@pytest.mark.parametrize("over", ["max", "mean"])
def test_dino_similarity_is_the_cosine_to_the_references(nodes, rollouts, over):
    model = nodes["dino"]["model"]
    found = values({**nodes["dino"], "over": over}, rollouts)
    for one, value in zip(rollouts, found, strict=True):
        mine = dino_feature(model, one.parsed.image)
        cosines = [
            float(mine @ dino_feature(model, np.asarray(Image.open(path))))
            for path in one.sample.target.references
        ]
        expected = max(cosines) if over == "max" else sum(cosines) / len(cosines)
        assert value == pytest.approx(expected, abs=0.02)  # Pillow rounds to whole steps
    assert max(found) - min(found) > 0.05


def test_dino_similarity_of_a_reference_with_itself_is_1(nodes, tmp_path):
    Image.fromarray(noise_image(3)).save(tmp_path / "same.png")
    one = rollout(noise_image(3), references=(str(tmp_path / "same.png"),))
    assert values(nodes["dino"], [one]) == [pytest.approx(1.0, abs=1e-5)]


def test_references_are_read_once(nodes, tmp_path):
    path = tmp_path / "gone.png"
    Image.fromarray(noise_image(3)).save(path)
    reward = build_reward(nodes["dino"])
    one = rollout(noise_image(4), references=(str(path),))
    first = reward([one])
    path.unlink()
    assert reward([one]) == first
    with pytest.raises(RewardError, match=r"gone\.png.*'s7'"):
        build_reward(nodes["dino"])([rollout(noise_image(4), 7, references=(str(path),))])


# --- what holds for all of them ----------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_batches_and_order_change_nothing(nodes, rollouts, name):
    whole = values({**nodes[name], "batch_size": 32}, rollouts)
    assert values({**nodes[name], "batch_size": 1}, rollouts) == pytest.approx(whole, abs=1e-5)
    order = list(range(len(rollouts)))
    random.Random(1).shuffle(order)
    shuffled = values({**nodes[name], "batch_size": 2}, [rollouts[i] for i in order])
    assert shuffled == pytest.approx([whole[i] for i in order], abs=1e-5)
    low, high = build_reward(nodes[name]).range
    assert all(low <= value <= high for value in whole)


@pytest.mark.parametrize("name", MODELS)
def test_no_image_scores_the_low_end(nodes, rollouts, name):
    reward = build_reward(nodes[name])
    target = vars(rollouts[0].sample.target)
    blank = rollout(None, 1, **target)
    mixed = [score.value for score in reward([rollouts[0], blank])]
    assert mixed[1] == reward.range[0]
    assert mixed[0] == pytest.approx(reward([rollouts[0]])[0].value, abs=1e-5)
    assert reward([]) == []


@pytest.mark.parametrize("name", ["dino", "geneval"])
def test_does_not_apply_without_references_or_scene(nodes, rollouts, name):
    bare = [rollout(noise_image(0)), rollout(None)]
    assert build_reward(nodes[name])(bare) == [Score(None), Score(None)]
    mixed = values(nodes[name], [bare[0], rollouts[0]])
    assert mixed[0] is None
    assert mixed[1] is not None


@pytest.mark.parametrize("name", ["clip", "hps", "aesthetic", "dino", "geneval", "pick"])
def test_a_missing_model_says_what_to_do(nodes, rollouts, name):
    key = {"hps": "checkpoint", "aesthetic": "head", "geneval": "detector"}.get(name, "model")
    with pytest.raises(RewardError, match=r"nowhere.*cannot be loaded.*local copy"):
        build_reward({**nodes[name], key: "/nowhere/at.pt"})(rollouts)


def test_a_checkpoint_of_another_kind_is_refused(nodes, rollouts):
    # transformers itself would only warn, and draw what is lacking at random.
    with pytest.raises(RewardError, match=r"has no weights for \d+ tensors of CLIPModel"):
        build_reward({**nodes["clip"], "model": nodes["dino"]["model"]})(rollouts)
    with pytest.raises(RewardError, match="cannot be loaded"):
        build_reward({**nodes["dino"], "model": nodes["clip"]["model"]})(rollouts)


def test_open_clip_never_runs_on_random_weights(nodes, rollouts):
    node = {"use": "clip_score", "library": "open_clip", "device": "cpu"}
    with pytest.raises(ConfigError, match="needs a tag or a file"):
        build_reward({**node, "model": OPEN_CLIP})
    with pytest.raises(ConfigError, match="nothing where"):
        build_reward({**node, "model": "local-dir:/a", "pretrained": "openai"})
    with pytest.raises(ConfigError, match="only applies to library: open_clip"):
        build_reward({"use": "clip_score", "pretrained": "openai"})


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(RewardError, match=r"'s4'.*uint8 \[H, W, 3\]"):
        build_reward({"use": "jpeg_compressibility"})([rollout(image, 4)])


def test_building_all_of_them_imports_no_torch():
    code = (
        "import sys; from vlrl.reward.tree import build_reward;"
        f"[build_reward({{'use': name}}) for name in {PICTURE_REWARDS}];"
        "print({'torch', 'transformers', 'open_clip', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_the_harmonic_config_runs(nodes, rollouts):
    path = ROOT / "configs/rewards/image_text_harmonic.yaml"
    node = yaml.safe_load(path.read_text(encoding="utf-8"))["reward"]
    dino, clip = node["harmonic"]
    dino |= {"model": nodes["dino"]["model"], "device": "cpu"}
    clip |= {"model": nodes["clip"]["model"], "device": "cpu"}
    bare = rollout(rollouts[0].parsed.image, 9)
    found = values(node, [*rollouts, bare])
    images = values({**nodes["dino"], "over": "mean"}, rollouts)
    captions = values(nodes["clip"], rollouts)
    for value, image, text in zip(found, images, captions, strict=False):
        expected = 1 / (0.3 / ((image + 1) / 2) + 0.7 / ((text + 1) / 2))
        assert value == pytest.approx(expected, abs=1e-5)
    assert found[-1] == pytest.approx((captions[0] + 1) / 2, abs=1e-5)
