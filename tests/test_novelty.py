"""Novelty in a group and over a run, against numbers worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward, TrainableReward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.novelty.archive import Archive, ArchiveOptions
from vlrl.reward.novelty.distilled import Distilled, DistilledOptions
from vlrl.reward.novelty.elliptical import Elliptical, EllipticalOptions
from vlrl.reward.novelty.features import Features
from vlrl.reward.tree import build_reward
from vlrl.types import Finish, Rollout, Sample

X, Y = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
itself = Features(lambda rollout: rollout.output, 3)
"""Answers that are vectors."""


def novelty(kind: str, features: str = "test_novelty:itself", **options: Any) -> Reward:
    return build_reward({"novelty": {"features": features, "kind": kind, **options}})


def answers(rows: Sequence[Any], group: int = 0) -> list[Rollout]:
    sample = Sample(f"s{group}", "t", (), None)
    return [Rollout(sample, group, i, row, Finish.STOP, 0, 0) for i, row in enumerate(rows)]


def values(reward: Reward, rollouts: Sequence[Rollout]) -> list[float | None]:
    found = [one.value for one in reward(rollouts)]
    assert all(one is None or 0 <= one <= 1 for one in found)
    return found


def test_elliptical_by_hand() -> None:
    """Of two equal answers 1 - 1 / 1.1 is left; one that is orthogonal to all counts 1."""
    diagonal = (X + Y) / math.sqrt(2)
    kind = Elliptical(EllipticalOptions(ridge=0.1), 3)
    assert kind.values(np.stack([X, X, Y])) == pytest.approx([1 - 1 / 1.1, 1 - 1 / 1.1, 1.0])
    assert kind.values(np.stack([X, Y, diagonal]))[2] == pytest.approx(1 - 1 / 1.1)
    assert kind.values(X[None]) == [None]
    assert kind.values(np.stack([X, 0 * X])) == [1.0, 0.0]


def test_elliptical_is_the_inverse_that_it_says_it_is() -> None:
    """ridge x^T (ridge I + sum y y^T)^-1 x, with the whole matrix; in any order."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    wanted = []
    for i in range(5):
        others = np.delete(rows, i, axis=0)
        wanted.append(0.1 * rows[i] @ np.linalg.inv(0.1 * np.eye(3) + others.T @ others) @ rows[i])
    kind = Elliptical(EllipticalOptions(), 3)
    assert kind.values(rows) == pytest.approx(wanted)
    assert kind.values(rows[::-1]) == pytest.approx(wanted[::-1])


def test_a_group_does_not_know_of_the_others() -> None:
    node = novelty("elliptical")
    both = values(node, [*answers([X, X]), *answers([X, Y], group=1)])
    assert both == pytest.approx([1 - 1 / 1.1, 1 - 1 / 1.1, 1.0, 1.0])


@pytest.mark.parametrize("num", [1, 4, 16, 64])
def test_a_distilled_bonus_falls_as_one_over_n(num: int) -> None:
    """Within 10 % of noise^2 / n; against the mean, so that no noise is left at the end."""
    kind = Distilled(DistilledOptions(num_targets=4096, noise=1.5), 3)
    first = kind.bonus(X)
    assert first == pytest.approx(9.0, rel=0.1)  # spread^2
    kind.remember(np.stack([X] * num))
    assert kind.bonus(X) == pytest.approx(1.5**2 / num, rel=0.1)
    assert kind.values(X[None])[0] == pytest.approx(1 / (1 + num), rel=0.1)
    assert kind.bonus(-X) > 0.7 * first  # far from what was seen


def test_an_archive_by_hand() -> None:
    """|x - y| / 2 = sqrt(2) / 2 for orthogonal answers, 1 for opposite ones."""
    kind = Archive(ArchiveOptions(num_nearest=2, apart=0.1, size=3), 3)
    assert kind.values(np.stack([X, 0 * X])) == [1.0, 0.0]
    assert kind.remember(np.stack([X, X, Y, 0 * X])) == {"entries": 2.0}  # the same comes once
    half = math.sqrt(2) / 2
    assert kind.values(np.stack([X, -X])) == pytest.approx([half / 2, (half + 1) / 2])
    kind.remember(np.stack([-X, -Y]))
    assert kind.entries.tolist() == [Y.tolist(), (-X).tolist(), (-Y).tolist()]  # X was the oldest


@pytest.mark.parametrize("kind", ["distilled", "archive"])
def test_what_is_remembered_is_saved(kind: str) -> None:
    """Used before it is updated; resumed to the last bit."""
    rng = np.random.default_rng(1)
    first, second = (list(rng.normal(size=(4, 3))) for _ in range(2))
    node, resumed = (novelty(kind) for _ in range(2))
    for one in (node, resumed):
        assert isinstance(one, TrainableReward)
    assert isinstance(node, TrainableReward)
    before = values(node, answers(first))
    assert values(node, answers(first)) == before
    node.pending = node.pending[:1]  # type: ignore[attr-defined]
    node.update([])
    assert values(node, answers(first)) != before
    node.pending.clear()  # type: ignore[attr-defined]
    resumed.load_state_dict(node.state_dict())  # type: ignore[attr-defined]
    for one in (node, resumed):
        one(answers(second))
        one.update([])  # type: ignore[attr-defined]
    assert values(node, answers(second)) == values(resumed, answers(second))


def test_another_fit_is_refused() -> None:
    small, large = novelty("distilled", num_random=8), novelty("distilled", num_random=16)
    assert isinstance(small, TrainableReward)
    assert isinstance(large, TrainableReward)
    with pytest.raises(RewardError, match="its options have changed since: saved with"):
        large.load_state_dict(small.state_dict())
    archive = novelty("archive")
    assert isinstance(archive, TrainableReward)
    with pytest.raises(RewardError, match="saved with 7 features"):
        archive.load_state_dict({"entries": torch.zeros(2, 7)})


def test_texts_images_and_shapes_have_features() -> None:
    def of(name: str, **parts: Any) -> np.ndarray:
        (rollout,) = answers([parts.pop("output", None)])
        rollout.parsed = SimpleNamespace(**parts)
        found: np.ndarray = resolve("features", name).of(rollout)
        assert np.linalg.norm(found) == pytest.approx(1.0)
        return found

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b)

    text = of("text", output="Click the red button")
    assert alike(text, of("text", output="click the  red button")) == pytest.approx(1.0)
    near = alike(text, of("text", output="Click the red buttons"))
    assert near > 0.85 > 0.5 > alike(text, of("text", output="No idea, sorry"))
    red, blue = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    assert alike(of("image", image=red), of("image", image=red[::2, ::3])) == pytest.approx(1.0)
    assert alike(of("image", image=red), of("image", image=blue)) < 0.0
    left, right = np.zeros((16,) * 3, bool), np.zeros((16,) * 3, bool)
    left[:8], right[8:] = True, True
    assert alike(of("shape", occupancy=left), of("shape", occupancy=right)) == 0.0
    assert set(REGISTRY["features"]) == {"text", "image", "shape"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "txt"}, r"reward.novelty: unknown features 'txt'; did you mean 'text'"),
        ({"features": "text", "kind": "archiv"}, r"reward.novelty: unknown novelty 'archiv'"),
        ({"features": "text", "ridge": 0.0}, r"reward.novelty.ridge"),
        ({"features": "text", "apart": 0.1}, r"reward.novelty: unknown key 'apart'"),
        ({}, r"reward.novelty: `features:` is missing"),
        ("text", r"reward.novelty: takes a mapping with features, kind"),
    ],
)
def test_a_wrong_novelty_is_refused_with_its_place(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_reward({"novelty": options})
