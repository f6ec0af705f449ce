"""A reward seen relative to its group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

Form = Literal["rank", "best", "centre"]


class GroupOptions(NodeOptions):
    """A node, and what of its value inside the group counts."""

    of: Node
    to: Form = Field("rank", description="rank: only the order; best: 1 for the best; centre")


class Group(Combinator):
    """`of`, replaced by what it says inside the group. Example: {group: {of: {...}, to: rank}}.

    to (default rank):
      rank    (number that it beats + half of its ties) / (G - 1), in [0, 1]: only the order counts
      best    1 for the best of the group, shared by those that tie; 0 for the others
      centre  value - mean of the group
    A rollout alone in its group does not apply.
    """

    Options = GroupOptions
    formula = (
        "rank: (#{r_j < r_i} + #{r_j = r_i, j != i} / 2) / (G - 1); best; centre: r_i - mean_j r_j"
    )
    source = "ranks as in Pref-GRPO-like recipes; own"
    name = "group"

    def __init__(self, of: Reward, to: Form = "rank") -> None:
        super().__init__((of,))
        self.of, self.to = of, to
        width = of.range[1] - of.range[0]
        self.range = (-width, width) if to == "centre" else (0.0, 1.0)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        scored = score(self.of, rollouts)
        groups: dict[tuple[str, int], list[int]] = {}
        for i, rollout in enumerate(rollouts):
            if scored[i].value is not None:
                groups.setdefault((rollout.sample.id, rollout.group), []).append(i)
        found: list[float | None] = [None] * len(rollouts)
        for rows in groups.values():
            if len(rows) > 1:
                values = np.array([scored[i].value for i in rows], dtype=np.float64)
                for i, value in zip(rows, self._relative(values).tolist(), strict=True):
                    found[i] = value
        return [self._join(one, value) for one, value in zip(scored, found, strict=True)]

    def _relative(self, values: np.ndarray) -> np.ndarray:
        if self.to == "best":
            top = values == values.max()
            return top / top.sum()
        if self.to == "centre":
            # fsum: the mean does not depend on the order of the group to the last bit.
            return values - math.fsum(values) / len(values)
        below = (values[None, :] < values[:, None]).sum(1)
        ties = (values[None, :] == values[:, None]).sum(1) - 1
        return (below + 0.5 * ties) / (len(values) - 1)

    def _join(self, one: Score, value: float | None) -> Score:
        parts = join_parts([(self.of, one)])
        if value is not None:
            parts[self.label or f"{self.of.name}_{self.to}"] = value
        return Score(value, parts)
