"""The scored rollouts of a step, and which of their groups teach nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

import torch
from torch import Tensor

from vlrl.algo.advantages import zero_variance
from vlrl.protocols import T
from vlrl.train.curriculum.curriculum import Results
from vlrl.train.scoring import terms_of
from vlrl.types import Rollout


@dataclass
class Experience(Generic[T]):
    """Scored rollouts of one step on this rank."""

    rollouts: list[Rollout]
    trajectory: T
    rewards: Tensor
    """[B, S], one column per stage; nan where the reward does not apply."""
    by_term: bool = False
    """The rewards of a sum have advantages of their own (`algo.advantage: gdpo`)."""
    results: Results = field(default_factory=dict)
    """What the curriculum wants to know, of replaced groups too."""

    def zero_variance(self, rewards: Tensor | None = None) -> Tensor:
        """True for the rows of groups that teach nothing, bool [B]; rewards: instead of its own."""
        seen = self.rewards if rewards is None else rewards
        if self.by_term:
            seen = terms_of(self.rollouts)[0]
        return zero_variance_rows(seen, self.trajectory.group)


def with_replaced(old: Experience[T], new: Experience[T], G: int) -> Experience[T]:
    """`old` with its equal-reward groups replaced by groups of `new` that do teach."""
    num_groups = len(old.rollouts) // G
    everything = [(old, g) for g in range(num_groups)]
    everything += [(new, g) for g in range(len(new.rollouts) // G)]
    # A stable sort: groups that teach first, the old ones before the new.
    idle = {id(source): source.zero_variance() for source in (old, new)}
    picks = sorted(everything, key=lambda pick: bool(idle[id(pick[0])][_rows(pick[1], G)].all()))
    picks = picks[:num_groups]
    rollouts: list[Rollout] = []
    for place, (source, g) in enumerate(picks):
        for rollout in source.rollouts[_rows(g, G)]:
            rollout.group = place
            rollouts.append(rollout)
    trajectory = type(old.trajectory).join([s.trajectory.only_group(g) for s, g in picks])
    rewards = torch.cat([source.rewards[_rows(g, G)] for source, g in picks])
    results = {name: list(values) for name, values in old.results.items()}
    for name, values in new.results.items():
        results[name] = [*results.get(name, []), *values]
    return Experience(rollouts, trajectory, rewards, old.by_term, results)


def _rows(group: int, G: int) -> slice:
    return slice(group * G, (group + 1) * G)


def zero_variance_rows(rewards: Tensor, group: Tensor) -> Tensor:
    """True for the rows of groups that teach nothing in any stage, [B, S] -> bool [B]."""
    return torch.stack([zero_variance(column, group) for column in rewards.unbind(1)]).all(0)
