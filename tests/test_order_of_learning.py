"""What rewards and normalisers learn depends on a step's answers, not on their order.

The order changes with the number of ranks and with groups that are drawn again: six prompts, two of
them drawn anew, are 0 1 2 3 4 5 on one rank and 0 1 4 2 3 5 on two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from vlrl.config.algo import BalanceConfig
from vlrl.protocols import Learner, Reward, TrainableReward
from vlrl.reward.parts import walk
from vlrl.reward.tree import build_reward
from vlrl.train.learners import Normalisers
from vlrl.types import Finish, Rollout, Sample

GIVEN, GATHERED = (0, 1, 2, 3, 4, 5), (0, 1, 4, 2, 3, 5)
G = 4


def letters(rollout: Rollout) -> float:
    return sum(map(ord, rollout.output)) % 17 / 17


def length(rollout: Rollout) -> float:
    return len(set(rollout.output)) / 10


LETTERS, LENGTH = ({"use": f"test_order_of_learning:{name}"} for name in ("letters", "length"))
FACTORS = {"letters": LETTERS, "length": LENGTH}
LEARNING = {
    "distilled": {"novelty": {"features": "text", "kind": "distilled", "num_random": 32}},
    "archive": {"novelty": {"features": "text", "kind": "archive", "size": 10, "apart": 0.3}},
    "head": {"hierarchy": {"factors": FACTORS, "margins": 0.1, "reduce": "head"}},
    "blend": {"blend": {"primary": LETTERS, "helpers": {"length": LENGTH}, "held_out": 0.5}},
    "zscore": {"shape": {"kind": "running_zscore", "of": LETTERS}},
    "minmax": {"shape": {"kind": "running_minmax", "of": LENGTH}},
}


def group(number: int, order: Sequence[int]) -> list[Rollout]:
    """Answers to prompt `number`; prompts 0 and 4 are the same one, drawn twice in the step."""
    random = np.random.default_rng(number)
    sample = Sample(f"s{number % 4}", "t", (), None, draw=number // 4)
    texts = ["".join(random.choice(list("abcdefgh"), 6)) for _ in range(G)]
    place = order.index(number)
    return [Rollout(sample, place, i, text, Finish.STOP, 6, 0) for i, text in enumerate(texts)]


def learnt(name: str, order: Sequence[int]) -> tuple[dict[str, float], Any, list[float | None]]:
    """Metrics and state after two steps, and the values of the first group then."""
    root: Reward = build_reward(LEARNING[name])
    (learner,) = (node for node in walk(root) if isinstance(node, TrainableReward))
    metrics: dict[str, float] = {}
    for _ in range(2):
        root([one for number in order for one in group(number, order)])
        metrics = dict(learner.update([]))
    return metrics, learner.state_dict(), [one.value for one in root(group(0, order))]


@pytest.mark.parametrize("name", LEARNING)
def test_what_a_reward_learns_does_not_depend_on_the_order(name: str) -> None:
    metrics, state, values = learnt(name, GIVEN)
    others, other, found = learnt(name, GATHERED)
    assert metrics == others
    assert values == found
    # To the last bit: the states of two ranks are compared like this before they are joined.
    assert isinstance(made(name).resharded([state, other], 0, 1), dict)


def made(name: str) -> Learner:
    node = build_reward(LEARNING[name])
    assert isinstance(node, TrainableReward)
    return node


class Drawn:
    """Answers of one action each."""

    reference = None

    def __init__(self, rollouts: Sequence[Rollout]) -> None:
        self.logp = torch.tensor([[-letters(one) - 0.1] for one in rollouts])
        self.mask = torch.ones(len(rollouts), 1, dtype=torch.bool)


def targets(found: Normalisers, order: Sequence[int]) -> dict[int, list[float]]:
    """Of the answers of each prompt that is drawn, in this order."""
    rollouts = [one for number in order for one in group(number, order)]
    trajectory: Any = Drawn(rollouts)
    rewards = torch.tensor([[length(one)] for one in rollouts])
    wanted = found.targets(rollouts, rewards, trajectory).tolist()
    return {number: wanted[i * G : (i + 1) * G] for i, number in enumerate(order)}


@pytest.mark.parametrize("order", [GATHERED, (4, 1, 2, 3, 0, 5)])
def test_nor_do_normalisers(order: Sequence[int]) -> None:
    """A new prompt that is drawn twice begins with each group's own estimate, on any rank."""
    one, other, alone = (Normalisers(BalanceConfig()) for _ in range(3))
    wanted = targets(one, GIVEN)
    assert targets(other, order) == wanted
    assert targets(alone, (4,)) == {4: wanted[4]}
    one.update([])
    other.update([])
    assert one.state_dict() == other.state_dict()
