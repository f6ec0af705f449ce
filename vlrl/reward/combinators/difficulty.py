"""A reward that counts more on harder prompts, by what the data says of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

from pydantic import Field, NonNegativeFloat

from vlrl.data.fields import as_written, shown
from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.tree import score
from vlrl.types import Rollout, Sample, Score

ANYTHING = "*"


class DifficultyOptions(NodeOptions):
    """A node, and weights by what is in columns of the data."""

    of: Node
    weights: dict[str, dict[str, NonNegativeFloat]] = Field(
        min_length=1, description="column -> value -> weight, added over columns; '*' = any other"
    )
    penalties_too: bool = Field(False, description="weigh values below 0 as well")


class Difficulty(Combinator):
    """`of` times the sum of its prompt's weights, one from each named column.

    Example: {difficulty: {of: {...}, weights: {map: {easy: 1.0, middle: 1.2, hard: 1.5},
    transfers: {0: 0.0, "*": 0.5}}}}. Within a group it is a constant: it matters to advantages
    that are not divided by the group's deviation. Differs from the release: a negative value
    keeps its size, so that a hard prompt's penalties are not the larger ones.
    """

    Options = DifficultyOptions
    formula = "(sum_c W_c[value of column c]) r where r > 0, else r"
    source = "RewardMap (arXiv 2510.02240)"
    name = "difficulty"

    def __init__(
        self, of: Reward, weights: Mapping[str, Mapping[str, float]], penalties_too: bool = False
    ) -> None:
        if empty := [column for column, by in weights.items() if not by]:
            raise ConfigError(f"weights.{empty[0]}: must have a weight for each value, or '*'")
        super().__init__((of,))
        self.of, self.weights, self.penalties_too = of, weights, penalties_too
        span = [
            math.fsum(end(by.values()) for by in weights.values()) for end in (min, max)
        ]  # fmt: skip
        if not span[1]:
            raise ConfigError("weights: must have one above 0, or every answer gets 0")
        low, high = of.range
        if not penalties_too:
            self.range = (
                low if low < 0 else low * span[0],
                high * span[1] if high > 0 else high,
            )
            return
        ends = [0.0 if 0.0 in (a, b) else a * b for a, b in product(of.range, span)]
        self.range = (min(ends), max(ends))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        return [
            self.joined(self._weighed(one.value, rollout.sample), one.parts or self._part(one))
            for rollout, one in zip(rollouts, score(self.of, rollouts), strict=True)
        ]

    def _part(self, one: Score) -> dict[str, float]:
        return {} if one.value is None else {self.of.name: one.value}

    def _weighed(self, value: float | None, sample: Sample) -> float | None:
        if value is None or (value <= 0 and not self.penalties_too):
            return value
        return value * math.fsum(
            self._weight(sample, column, by) for column, by in self.weights.items()
        )

    def _weight(self, sample: Sample, column: str, by: Mapping[str, float]) -> float:
        if column not in sample.columns:
            raise RewardError(
                f"difficulty: sample {sample.id!r} has no column {column!r}; "
                f"{did_you_mean(column, sample.columns)}"
            )
        value = as_written(sample.columns[column])
        found = by.get(value, by.get(ANYTHING))
        if found is None:
            raise RewardError(
                f"difficulty: column {column!r} of sample {sample.id!r} is {shown(value)}, for "
                f"which weights.{column} has no weight; it has {', '.join(by)} (add it, or '*')"
            )
        return found
