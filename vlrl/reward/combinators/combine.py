"""Joining rewards: sums, products and means of several kinds over the children that apply.

A child that does not apply to a rollout is left out there; where none applies, neither does the
whole. The declared range is computed from the children's, so it holds for every combination.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import product as pairs
from typing import ClassVar, Self

from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Build, Node, NodeOptions, WeightedNode
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

Range = tuple[float, float]


class ChildrenOptions(NodeOptions):
    """The nodes to join, a list."""

    children: list[Node]


class WeightedChildrenOptions(NodeOptions):
    """The nodes to join, a list; each may carry `weight` (default 1.0)."""

    children: list[WeightedNode]


class Joined(Combinator):
    """Several rewards joined by one formula."""

    Options: ClassVar[type[NodeOptions]] = ChildrenOptions
    only_field = "children"

    def __init__(self, children: Sequence[Reward], weights: Sequence[float] | None = None) -> None:
        self.name = type(self).__name__.lower()
        if not children:
            raise ConfigError(f"{self.name}: there is nothing to combine")
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(children)
        if len(self.weights) != len(children):
            raise ConfigError(
                f"{self.name}: {len(self.weights)} weights for {len(children)} children"
            )
        super().__init__(children)
        self._check_weights()
        ranges = [child.range for child in self.children]
        self.range = self.joint_range(ranges)
        known = all(math.isfinite(end) for one in ranges for end in one)
        if known and not all(math.isfinite(end) for end in self.range):
            raise ConfigError(
                f"{self.name}: weights and ranges are so large that their {self.name} overflows; "
                "make the weights smaller"
            )

    @classmethod
    def from_config(cls, value: object, where: str, build: Build) -> Self:
        """From a list of nodes; raises ConfigError that names the place."""
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{where}: takes a list of reward nodes, not {value!r}")
        return super().from_config(value, where, build)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One joint score per rollout, in order; every child sees all rollouts."""
        columns = [score(child, rollouts) for child in self.children]
        return [self._join(row) for row in zip(*columns, strict=True)]

    def _check_weights(self) -> None:
        """Some rewards can be exploited above a certain weight, and reject it."""
        pairs_of = list(zip(self.weights, self.children, strict=True))
        for place, (weight, child) in enumerate(pairs_of if self.weighted else ()):
            child.check_weight(weight, pairs_of[:place] + pairs_of[place + 1 :])

    def _join(self, row: tuple[Score, ...]) -> Score:
        applying = [
            (weight, self.seen(child, one.value))
            for weight, child, one in zip(self.weights, self.children, row, strict=True)
            if one.value is not None
        ]
        value = self.joint_value(applying) if applying else None
        return self.joined(value, join_parts(zip(self.children, row, strict=True)))

    def seen(self, child: Reward, value: float) -> float:
        """A child's value as the formula takes it."""
        return value

    @abstractmethod
    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """The value of the (weight, value) pairs that apply; there is at least one."""

    @abstractmethod
    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """The interval that holds the value whichever children apply."""


class Sum(Joined):
    """Weighted sum; a part that does not apply adds nothing. Example: {sum: [node, node]}."""

    formula = "sum_i w_i r_i over the children that apply"
    Options = WeightedChildrenOptions
    weighted = True

    def _join(self, row: tuple[Score, ...]) -> Score:
        terms = zip(self.weights, (one.value for one in row), strict=True)
        return replace(super()._join(row), terms=tuple(terms))

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """sum_i w_i r_i."""
        return math.fsum(weight * value for weight, value in applying)

    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """Sum of the ends; with several children each may also be absent, which counts 0."""
        ends = [scaled(weight, end) for weight, end in zip(self.weights, ranges, strict=True)]
        if len(ends) > 1:
            ends = [(min(low, 0.0), max(high, 0.0)) for low, high in ends]
        return (sum(low for low, _ in ends), sum(high for _, high in ends))


class WeightedMean(Joined):
    """A mean of some kind: the weights of the parts that apply are made to sum to 1."""

    Options = WeightedChildrenOptions
    weighted = True

    def __init__(self, children: Sequence[Reward], weights: Sequence[float] | None = None) -> None:
        if weights is not None and any(weight <= 0 for weight in weights):
            own = type(self).__name__.lower()
            raise ConfigError(f"{own}: every weight is above 0, not {list(weights)}")
        super().__init__(children, weights)


class Mean(WeightedMean):
    """Weighted mean; the weights of the parts that apply are made to sum to 1."""

    formula = "sum_i w_i r_i / sum_i w_i over the children that apply, w_i > 0"

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """sum_i w_i r_i / sum_i w_i."""
        total = math.fsum(weight for weight, _ in applying)
        return math.fsum(weight * value for weight, value in applying) / total

    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """The hull of the children's ranges."""
        return hull(ranges)


class Product(Joined):
    """Product of the parts that apply. Example: {product: [{use: format}, {use: box_iou}]}."""

    formula = "prod_i r_i over the children that apply"

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """prod_i r_i."""
        return math.prod(value for _, value in applying)

    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """Interval product; with several children each may be absent, which counts 1."""
        joint = ranges[0]
        several = len(ranges) > 1
        if several:
            joint = hull([joint, (1.0, 1.0)])
        for one in ranges[1:]:
            one = hull([one, (1.0, 1.0)])
            # 0 x inf is 0 here: an end that is never reached times an exact 0.
            ends = [0.0 if 0.0 in (a, b) else a * b for a, b in pairs(joint, one)]
            joint = (min(ends), max(ends))
        return joint


class Min(Joined):
    """The least of the parts that apply."""

    formula = "min_i r_i over the children that apply"

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """min_i r_i."""
        return min(value for _, value in applying)

    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """Any child may be the only one that applies, so the hull of all."""
        return hull(ranges)


class Max(Joined):
    """The greatest of the parts that apply."""

    formula = "max_i r_i over the children that apply"

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """max_i r_i."""
        return max(value for _, value in applying)

    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """Any child may be the only one that applies, so the hull of all."""
        return hull(ranges)


class UnitMean(WeightedMean):
    """A mean of shares: every child is first mapped from its declared range to [0, 1]."""

    def __init__(self, children: Sequence[Reward], weights: Sequence[float] | None = None) -> None:
        for place, child in enumerate(children):
            low, high = child.range
            own = type(self).__name__.lower()
            where = f"{own}[{place}]: {child.name!r} has the range"
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ConfigError(
                    f"{where} [{low:g}, {high:g}], which cannot be mapped to [0, 1]; "
                    "put it under `clip`"
                )
            if not low < high:
                raise ConfigError(
                    f"{where} [{low:g}, {high:g}], which cannot be mapped to [0, 1]: it is always "
                    "the same; remove it, or give its parts a weight other than 0"
                )
        super().__init__(children, weights)

    def seen(self, child: Reward, value: float) -> float:
        """(value - low) / (high - low); for a cosine (cos + 1) / 2."""
        low, high = child.range
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """[0, 1]."""
        return (0.0, 1.0)


class Harmonic(UnitMean):
    """Weighted harmonic mean of the parts mapped to [0, 1]; 0 where one of them is 0.

    With a similarity to references of weight lambda and one to the caption of weight
    1 - lambda: the lambda-harmonic reward of RPO (arXiv 2407.12164), there with an epsilon.
    """

    formula = "sum_i w_i / sum_i (w_i / s_i), s_i = (r_i - low_i) / (high_i - low_i), w_i > 0"

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """sum_i w_i / sum_i (w_i / s_i)."""
        if any(share <= 0 for _, share in applying):
            return 0.0
        total = math.fsum(weight for weight, _ in applying)
        return total / math.fsum(weight / share for weight, share in applying)


class Geomean(UnitMean):
    """Weighted geometric mean of the parts mapped to [0, 1]; 0 where one of them is 0."""

    formula = "prod_i s_i^(w_i / sum w), s_i = (r_i - low_i) / (high_i - low_i), w_i > 0"

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """exp(sum_i w_i log s_i / sum_i w_i)."""
        if any(share <= 0 for _, share in applying):
            return 0.0
        total = math.fsum(weight for weight, _ in applying)
        logs = math.fsum(weight * math.log(share) for weight, share in applying)
        return math.exp(logs / total)


def hull(ranges: Sequence[Range]) -> Range:
    """The least interval that holds all of them."""
    return (min(low for low, _ in ranges), max(high for _, high in ranges))


def scaled(weight: float, interval: Range) -> Range:
    """The interval times a number of either sign."""
    if weight == 0:
        return (0.0, 0.0)
    low, high = weight * interval[0], weight * interval[1]
    return (min(low, high), max(low, high))
