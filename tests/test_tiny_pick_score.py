"""A small PickScore: hand-computed losses, and `use: pick_score` gives what it learnt."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_clock import Counted
from helpers_images import rollout
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.assets.images.judge_pairs import PairMaker, read_rows
from scripts.assets.models.image.pick import (
    accuracy,
    features,
    learn_picks,
    new_clip,
    pick_losses,
    pick_processor,
)
from vlrl.reward.tree import build_reward

ASSETS = Path(__file__).resolve().parent.parent / "assets/images"


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)


def test_losses_by_hand() -> None:
    images = torch.stack([unit([1.0, 0.0], [0.0, 1.0]), unit([0.0, 1.0], [0.0, 1.0])])
    texts = unit([1.0, 0.0], [0.0, 1.0])
    picked, told = pick_losses(images, texts, torch.tensor(2.0), ["a", "b"])
    # Of the first pair 2 against 0, of the second 2 against 2.
    first, second = np.log(1 + np.exp(-2.0)), np.log(2.0)
    assert float(picked) == pytest.approx((first + second) / 2, abs=1e-6)
    assert float(told) == pytest.approx(first, abs=1e-6)
    # Two pairs of one caption are not contrasted.
    _, told = pick_losses(images, texts[:1].expand(2, 2), torch.tensor(2.0), ["a", "a"])
    assert float(told) == pytest.approx(0.0, abs=1e-6)


@given(st.integers(0, 10_000), st.floats(0.1, 50))
@settings(max_examples=30)
def test_exchanged_pairs_are_the_other_probability(seed: int, scale: float) -> None:
    g = torch.Generator().manual_seed(seed)
    images = torch.nn.functional.normalize(
        torch.randn(1, 2, 8, generator=g, dtype=torch.float64), dim=-1
    )
    texts = torch.nn.functional.normalize(
        torch.randn(1, 8, generator=g, dtype=torch.float64), dim=-1
    )
    one, _ = pick_losses(images, texts, torch.tensor(scale), ["a"])
    other, _ = pick_losses(images.flip(1), texts, torch.tensor(scale), ["a"])
    assert float((-one).exp() + (-other).exp()) == pytest.approx(1.0, abs=1e-9)


def test_what_it_learns_is_what_the_reward_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = read_rows(ASSETS / "train.jsonl")[:12]
    processor = pick_processor([row["caption"] for row in rows])
    model = new_clip(processor)
    maker = PairMaker(ASSETS, rows, 0)
    kinds = ("noise", "wrong_background")
    log = io.StringIO()
    pairs = (maker.pair(kind) for kind in itertools.cycle(kinds))
    learn_picks(model, processor, pairs, Counted(80), batch=16, lr=2e-3, log=log)
    drawn = list(PairMaker(ASSETS, rows, 1).draw(80, kinds))
    found = accuracy(model, processor, drawn)
    assert found["all"] > 0.7, (found, log.getvalue())
    assert found.keys() == {"all", *kinds}

    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "clip"
    reward = build_reward(
        {"use": "pick_score", "model": str(tmp_path), "processor": str(tmp_path), "divide_by": 1}
    )
    with torch.no_grad():
        images, texts = features(model, processor, drawn[:6])
        scores = model.logit_scale.exp() * (images * texts[:, None]).sum(-1)
    asked = [rollout(np.array(pair.chosen), caption=pair.caption) for pair in drawn[:6]]
    given_ = [score.value for score in reward(asked)]
    torch.testing.assert_close(torch.tensor(given_), scores[:, 0], atol=1e-3, rtol=1e-3)
