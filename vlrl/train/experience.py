"""The scored rollouts of a step, and which of their groups teach nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from vlrl.algo.advantages import zero_variance
from vlrl.protocols import T
from vlrl.types import Rollout


@dataclass
class Experience(Generic[T]):
    """Scored rollouts of one step on this rank."""

    rollouts: list[Rollout]
    trajectory: T
    rewards: Tensor
    """[B, S], one column per stage; nan where the reward does not apply."""


def with_replaced(old: Experience[T], new: Experience[T], G: int) -> Experience[T]:
    """`old` with its equal-reward groups replaced by groups of `new` that do teach."""
    num_groups = len(old.rollouts) // G
    everything = [(old, g) for g in range(num_groups)]
    everything += [(new, g) for g in range(len(new.rollouts) // G)]
    # A stable sort: groups that teach first, the old ones before the new.
    picks = sorted(
        everything, key=lambda pick: _has_zero_variance(pick[0].rewards[_rows(pick[1], G)])
    )
    picks = picks[:num_groups]
    rollouts: list[Rollout] = []
    for place, (source, g) in enumerate(picks):
        for rollout in source.rollouts[_rows(g, G)]:
            rollout.group = place
            rollouts.append(rollout)
    trajectory = type(old.trajectory).join([s.trajectory.only_group(g) for s, g in picks])
    rewards = torch.cat([source.rewards[_rows(g, G)] for source, g in picks])
    return Experience(rollouts, trajectory, rewards)


def _rows(group: int, G: int) -> slice:
    return slice(group * G, (group + 1) * G)


def zero_variance_rows(rewards: Tensor, group: Tensor) -> Tensor:
    """True for the rows of groups that teach nothing in any stage, [B, S] -> bool [B]."""
    return torch.stack([zero_variance(column, group) for column in rewards.unbind(1)]).all(0)


def _has_zero_variance(rewards: Tensor) -> bool:
    return bool(zero_variance_rows(rewards, torch.zeros(len(rewards), dtype=torch.long)).all())
