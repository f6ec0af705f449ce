"""A reward clipped to an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, model_validator

from vlrl.config.section import OpenEnd
from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score


class BoundsOptions(NodeOptions):
    """A node and the ends of the interval; one of the two may be left out."""

    of: Node
    low: OpenEnd = Field(-math.inf, description="nothing below it")
    high: OpenEnd = Field(math.inf, description="nothing above it")

    @model_validator(mode="after")
    def _has_an_end(self) -> BoundsOptions:
        if math.isinf(self.low) and math.isinf(self.high):
            raise ValueError("`of:` and at least one of `low:`, `high:` are needed")
        return self


class Bounds(Combinator):
    """`of`, but never below `low` or above `high`.

    Example: {clip: {of: {sum: [...]}, low: 0.0, high: 1.0}}; one end may be left out.
    """

    Options = BoundsOptions
    formula = "min(max(r, low), high)"
    name = "clip"

    def __init__(self, of: Reward, low: float = -math.inf, high: float = math.inf) -> None:
        if not low < high:
            raise ConfigError(f"clip: low {low:g} is not below high {high:g}")
        super().__init__((of,))
        self.of, self.low, self.high = of, low, high
        self.range = (self._cut(of.range[0]), self._cut(of.range[1]))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        return [
            self.joined(
                None if one.value is None else self._cut(one.value), join_parts([(self.of, one)])
            )
            for one in score(self.of, rollouts)
        ]

    def _cut(self, value: float) -> float:
        return min(max(value, self.low), self.high)
