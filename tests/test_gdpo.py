"""GDPO: each reward of a sum is a z-score in its group before they are added."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlrl.algo.advantages import advantages
from vlrl.algo.gdpo import added_zscores, over_batch
from vlrl.build import check_plugins
from vlrl.config.resolve import check
from vlrl.config.schema import AlgoConfig, RunConfig
from vlrl.distributed.comm import World
from vlrl.errors import ConfigError
from vlrl.reward.tree import build_reward
from vlrl.train.credit import stage_advantages
from vlrl.train.experience import Experience
from vlrl.train.scoring import terms_of
from vlrl.types import Finish, Rollout, Sample

NAN = math.nan
GROUP = torch.tensor([0, 0, 0, 1, 1, 1])
ALONE = World(0, 1, torch.device("cpu"))
finite = st.floats(-3, 3)


def scored(rows: list[tuple[float | None, float | None]]) -> list[Rollout]:
    """Answers that are pairs of numbers, scored by a sum of the two."""
    tree = {"sum": [
        {"use": "test_joining_nodes:at"},
        {"use": "test_joining_nodes:at", "column": 1, "weight": 2.0},
    ]}  # fmt: skip
    rollouts = [
        Rollout(Sample(f"s{i // 3}", "t", (), None), i // 3, i % 3, row, Finish.STOP, 1, 0)
        for i, row in enumerate(rows)
    ]
    for rollout, score in zip(rollouts, build_reward(tree)(rollouts), strict=True):
        rollout.score = score
    return rollouts


ROWS: list[tuple[float | None, float | None]] = [
    (0.0, 0.1), (1.0, 0.1), (0.5, 0.1), (1.0, -0.2), (1.0, 0.2), (None, 0.0),
]  # fmt: skip
ADDED = [-1.0, 1.0, 0.0, -2.0, 2.0, 0.0]
"""Deviations: 0.5 and 0 in the first group, 0 and 0.2 in the second; the second counts twice."""


def test_by_hand() -> None:
    rollouts = scored(ROWS)
    rewards, weights = terms_of(rollouts)
    assert weights.tolist() == [1.0, 2.0]
    assert rewards[3].tolist() == pytest.approx([1.0, -0.2])
    added = added_zscores(rewards, weights, GROUP, 1e-9)
    assert added.tolist() == pytest.approx(ADDED, abs=1e-6)
    std = math.sqrt(10 / 5)  # unbiased, of six values with mean 0
    algo = AlgoConfig(advantage="gdpo", advantage_eps=1e-9)
    found = stage_advantages(torch.zeros(6, 1), GROUP, algo, ALONE, rollouts)
    assert found[:, 0].tolist() == pytest.approx([a / std for a in ADDED], abs=1e-5)
    clipped = AlgoConfig(advantage="gdpo", advantage_eps=1e-9, advantage_clip=0.5)
    limited = stage_advantages(torch.zeros(6, 1), GROUP, clipped, ALONE, rollouts)
    assert float(limited.max()) == 0.5


@given(st.lists(st.tuples(finite, finite), min_size=6, max_size=6), st.floats(0.1, 100))
def test_the_scale_of_a_reward_does_not_matter(
    rows: list[tuple[float, float]], scale: float
) -> None:
    """Its weight does: normalising the sum instead lets the largest one decide."""
    rewards = torch.tensor(rows)
    larger = rewards * torch.tensor([1.0, scale])
    weights = torch.tensor([1.0, 0.5])
    a, b = (added_zscores(r, weights, GROUP, 1e-12) for r in (rewards, larger))
    spread = [float(rewards[g == GROUP].std(0).min()) for g in (0, 1)]
    if min(spread) > 1e-3:
        assert torch.allclose(a, b, atol=1e-3)


def test_groups_with_equal_sums_still_teach() -> None:
    """(1, 0), (0, 1), (0, 1): the sums are equal, the rewards are not."""
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    group = torch.zeros(3, dtype=torch.long)
    assert advantages(rewards.sum(1), group, "group_zscore").abs().max() == 0
    assert added_zscores(rewards, torch.tensor([1.0, 3.0]), group, 1e-4).abs().min() > 0.5


def test_groups_that_teach_nothing_are_those_without_any_spread() -> None:
    from types import SimpleNamespace

    rows: Any = [(0.4, 0.3), (0.6, 0.2), (0.0, 0.5), (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)]
    rollouts = scored(rows)
    rewards = torch.ones(6, 1)  # 0.4 + 2 x 0.3 and so on: the sums are all 1
    trajectory: Any = SimpleNamespace(group=GROUP)
    summed = Experience(rollouts, trajectory, rewards)
    assert summed.zero_variance().tolist() == [True] * 6
    apart = Experience(rollouts, trajectory, rewards, by_term=True)
    assert apart.zero_variance().tolist() == [False] * 3 + [True] * 3


def test_one_reward_alone_is_a_z_score() -> None:
    rewards = torch.tensor([0.1, 0.5, 0.3, NAN, 2.0, 4.0])
    added = added_zscores(rewards[:, None], torch.ones(1), GROUP, 1e-4)
    wanted = advantages(rewards, GROUP, "group_zscore", eps=1e-4)
    assert added.nan_to_num(0.0).float().tolist() == pytest.approx(wanted.tolist())
    assert added.isnan().tolist() == rewards.isnan().tolist()
    assert over_batch(added, 0.0, 1.0, 0.0).tolist() == pytest.approx(wanted.tolist())


@pytest.mark.parametrize(
    "reward",
    [{"use": "box_iou"}, {"sum": [{"use": "box_iou"}]}, {"mean": [{"use": "box_iou"}] * 2}],
)
def test_a_reward_that_is_no_sum_is_refused(reward: dict[str, Any]) -> None:
    config = {
        "name": "run",
        "task": {"use": "gui_grounding", "data": {"train": {"path": "rows.jsonl"}}},
        "policy": {"use": "vision_language", "model": "tiny"},
        "reward": reward,
        "algo": {"advantage": "gdpo"},
    }
    with pytest.raises(ConfigError, match="`reward` must be a `sum` of two or more"):
        check_plugins(check(RunConfig, config))
