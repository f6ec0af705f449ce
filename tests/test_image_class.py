"""The embedded judges, and the reward that queries a classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from scripts.assets.images.compose import compose
from vlrl.errors import ConfigError, DataError, RewardError
from vlrl.eval.image import nearness
from vlrl.image.networks.pooled import PooledFeatures
from vlrl.reward.tree import build_reward
from vlrl.tasks.text_to_image import ImageAnswer, ImageTarget
from vlrl.types import Finish, Rollout, Sample

ROOT = Path(__file__).resolve().parent.parent
STYLE, CONCEPT = (str(ROOT / f"assets/models/judge_{by}") for by in ("style", "concept"))
ROWS = [
    json.loads(line)
    for line in (ROOT / "assets/images/held_out.jsonl").read_text(encoding="utf-8").splitlines()
][::20]


def shown(style: str) -> list[Rollout]:
    """Held-out images of one style as if they had been generated."""
    rollouts = []
    for i, row in enumerate(ROWS):
        slug = row["id"].rpartition("--")[0]
        with Image.open(ROOT / f"assets/images/{style}/{slug}.png") as sprite:
            image = np.asarray(compose(sprite, row["colour"]))
        target = ImageTarget(row["caption"], labels={"concept": row["concept"]})
        sample = Sample(row["id"], "text_to_image", (), target)
        rollouts.append(Rollout(sample, i, 0, image, Finish.STOP, 1, 0, parsed=ImageAnswer(image)))
    return rollouts


def values(node: dict, rollouts: list[Rollout]) -> list[float | None]:
    return [score.value for score in build_reward({"use": "image_class", **node})(rollouts)]


def test_the_judges_know_images_that_they_never_saw() -> None:
    noto = {"model": STYLE, "class_name": "noto"}
    assert np.mean(values(noto, shown("noto"))) > 0.9
    assert np.mean(values(noto, shown("fluent"))) < 0.1
    for style in ("fluent", "noto"):
        hits = values({"model": CONCEPT, "class_from": "concept", "value": "hit"}, shown(style))
        assert set(hits) <= {0.0, 1.0}
        assert np.mean(hits) > 0.9


def test_it_is_the_plain_softmax() -> None:
    rollouts = shown("noto")[:4]
    model = AutoModelForImageClassification.from_pretrained(STYLE, dtype=torch.float32)
    pixels = AutoImageProcessor.from_pretrained(STYLE)(
        images=[r.parsed.image for r in rollouts], return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**pixels).logits.softmax(-1)[:, model.config.label2id["noto"]]
    got = values({"model": STYLE, "class_name": "noto"}, rollouts)
    assert got == pytest.approx(expected.tolist(), abs=1e-6)
    one = values({"model": STYLE, "class_name": "noto", "batch_size": 1}, rollouts)
    assert got == pytest.approx(one, abs=1e-5)


def test_what_does_not_fit_says_so() -> None:
    rollouts = shown("noto")[:2]
    with pytest.raises(RewardError, match="did you mean 'noto'"):
        values({"model": STYLE, "class_name": "noyo"}, rollouts)
    with pytest.raises(RewardError, match="no class"):
        values({"model": STYLE}, rollouts)
    with pytest.raises(ConfigError, match="not both"):
        values({"model": STYLE, "class_name": "noto", "class_from": "concept"}, rollouts)
    assert values({"model": STYLE, "class_from": "colour"}, rollouts) == [None, None]
    rollouts[0].parsed = None
    assert values({"model": STYLE, "class_name": "noto"}, rollouts)[0] == 0.0


def test_images_of_a_style_lie_nearest_to_that_style() -> None:
    """In the features of the object judge, which was never trained on style."""
    embed = PooledFeatures(CONCEPT, device="cpu", batch_size=7)
    by_style = {style: [rollout.output for rollout in shown(style)] for style in ("noto", "fluent")}
    sets = {style: embed(images) for style, images in by_style.items()}
    model = AutoModelForImageClassification.from_pretrained(CONCEPT, dtype=torch.float32)
    inputs = AutoImageProcessor.from_pretrained(CONCEPT)(by_style["noto"], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        mine = model.classifier(torch.from_numpy(sets["noto"])[:, :, None, None])
    assert torch.allclose(mine, logits, atol=1e-4)
    # An image moved by a pixel is in neither set, but still in its style.
    moved = embed([np.roll(image, 1, axis=1) for image in by_style["noto"]])
    found = nearness(moved, sets)
    assert found["noto"]["nearest"] > 0.9
    assert found["noto"]["nearest"] + found["fluent"]["nearest"] == pytest.approx(1)
    assert found["noto"]["fid"] < 0.2 * found["fluent"]["fid"]
    assert found["noto"]["kid"] < found["fluent"]["kid"]
    with pytest.raises(DataError, match="unequal size"):
        nearness(moved, {"noto": sets["noto"], "fluent": sets["fluent"][:3]})


def test_a_model_without_pooled_output_says_so(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerImageProcessor, SegformerModel

    sizes = {"hidden_sizes": [8, 8, 8, 8], "decoder_hidden_size": 8, "depths": [1, 1, 1, 1]}
    SegformerModel(SegformerConfig(**sizes, num_attention_heads=[1] * 4)).save_pretrained(tmp_path)
    SegformerImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(RewardError, match="no pooled output"):
        PooledFeatures(str(tmp_path), device="cpu")([np.zeros((64, 64, 3), np.uint8)])
