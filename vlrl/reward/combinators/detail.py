"""Credit for details of an answer that is not right yet; a right one has all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions, WeightedNode
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score


class DetailOptions(NodeOptions):
    """What is right, its details, and how much they count beside it."""

    correct: Node
    parts: list[WeightedNode] = Field(min_length=1, description="each counts as a share of its "
                                      "range, by `weight`")  # fmt: skip
    weight: float = Field(0.5, gt=0, description="of the details, beside 1 for `correct`")


class Detail(Combinator):
    """`correct` + weight x the share of its details; a right answer counts as having all.

    Example: {detail: {correct: {use: "mine:exact_route"}, parts: [{use: "mine:stations"},
    {use: "mine:lines", weight: 2.0}]}}. Right = `correct` at its high end. An answer to which no
    detail applies gets `correct` alone. Differs from the released RewardMap, whose detail term
    takes 5 off for the last segment of every right route.
    """

    Options = DetailOptions
    weighted = True
    formula = (
        "r + weight d; d = 1 where r is at its high end, else sum_i w_i s_i / sum_i w_i over those "
        "that apply; r where none does"
    )
    source = "RewardMap (arXiv 2510.02240)"
    name = "detail"

    def __init__(
        self, correct: Reward, parts: Sequence[Reward], weights: Sequence[float],
        weight: float = 0.5,
    ) -> None:  # fmt: skip
        if not math.isfinite(correct.range[1]):
            raise ConfigError(f"correct: {correct.name!r} has no finite high end that is right")
        for place, (one, share) in enumerate(zip(parts, weights, strict=True)):
            low, high = one.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(
                    f"parts[{place}]: {one.name!r} has the range [{low:g}, {high:g}], of which "
                    "there are no shares; put it under `clip`"
                )
            if share <= 0:
                raise ConfigError(f"parts[{place}]: its weight must be above 0, not {share:g}")
        super().__init__((correct, *parts))
        self.correct, self.details, self.weights = correct, tuple(parts), tuple(weights)
        self.weight = weight
        self.range = (correct.range[0], correct.range[1] + weight)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; details that do not apply are left out."""
        columns = [score(child, rollouts) for child in self.children]
        return [self._join(row) for row in zip(*columns, strict=True)]

    def _join(self, row: tuple[Score, ...]) -> Score:
        parts = join_parts(zip(self.children, row, strict=True))
        correct = row[0].value
        share = self._share(row[1:])
        if correct is None or share is None:
            return self.joined(correct, parts)
        if correct >= self.correct.range[1]:
            share = 1.0
        return self.joined(correct + self.weight * share, {**parts, "detail": share})

    def _share(self, row: Sequence[Score]) -> float | None:
        """Of the details that apply; None where none does."""
        found = [
            (weight, (one.value - node.range[0]) / (node.range[1] - node.range[0]))
            for weight, node, one in zip(self.weights, self.details, row, strict=True)
            if one.value is not None
        ]
        if not found:
            return None
        total = math.fsum(weight for weight, _ in found)
        return min(max(math.fsum(weight * share for weight, share in found) / total, 0.0), 1.0)
