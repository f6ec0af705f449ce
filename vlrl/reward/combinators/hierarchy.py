"""Factors in order of importance decide pairs of a group; the pairs become one number each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from vlrl.config.section import Section
from vlrl.errors import did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.combinators import pair_statistics as pairs
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Build, Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

Reducer = Literal["bradley_terry", "win_rate", "strict", "head"]


class HeadOptions(Section):
    """`reduce: head`: a small network on the factors that learns from the decided pairs."""

    width: PositiveInt = Field(16, description="hidden units")
    lr: PositiveFloat = Field(1e-3, description="Adam's")
    num_updates: PositiveInt = Field(4, description="steps on each batch of rollouts")
    bound: PositiveFloat = Field(5.0, description="the value is bound x tanh(h / bound)")
    seed: int = Field(0, ge=0, le=2**32 - 1)


class HierarchyOptions(NodeOptions):
    """The factors, most important first, and how far apart two answers must be in one."""

    factors: dict[str, Node] = Field(min_length=2)
    margins: NonNegativeFloat | dict[str, NonNegativeFloat] = Field(
        0.0,
        description="a factor decides where the difference is larger, in the factor's own units "
        "unless `relative`; by name, or for all",
    )
    relative: bool = Field(
        False, description="margins count in deviations of the factor in the group"
    )
    lower_is_better: tuple[str, ...] = ()
    reduce: Reducer = "bradley_terry"
    ridge: PositiveFloat = Field(0.01, description="bradley_terry: holds strengths to 0")
    head: HeadOptions = HeadOptions()

    @model_validator(mode="after")
    def _check(self) -> HierarchyOptions:
        by_name = self.margins if isinstance(self.margins, dict) else {}
        for place, names in (("margins", by_name), ("lower_is_better", self.lower_is_better)):
            for name in names:
                if name not in self.factors:
                    raise ValueError(
                        f"`{place}` names no factor {name!r}; {did_you_mean(name, self.factors)}"
                    )
        any_margin = any(by_name.values()) or (not by_name and bool(self.margins))
        if self.reduce == "strict" and any_margin:
            raise ValueError(
                "`reduce: strict` needs margins of 0: with margins comparisons go round in "
                "circles and have no order; use bradley_terry, win_rate or head"
            )
        if self.reduce != "head" and self.head != HeadOptions():
            raise ValueError(f"`head`: no effect with `reduce: {self.reduce}`; leave it out")
        return self


class Hierarchy(Combinator):
    """The first factor in which two answers of a group differ by more than its margin decides.

    Example: {hierarchy: {factors: {right: {use: box_hit}, size: {use: box_iou}},
    margins: {size: 0.1}}}. A pair that no factor decides is left out. HERON's margins are
    multiples of the factor's deviation: that is `relative: true`, with that of the group.

    reduce (default bradley_terry):
      bradley_terry  strength of a Bradley-Terry fit to the group's pairs, held to 0 by `ridge`
      win_rate       share of the others that it beats; undecided counts half
      strict         rank in the order by the first factor, then the second, ...; margins 0 only
      head           a network on the factors, trained on every step's pairs over the run
    """

    Options = HierarchyOptions
    names_leaves = False  # a part's name begins with its factor's
    formula = "fit to sign(f_l,i - f_l,j), l the first factor with |f_l,i - f_l,j| > margin_l"
    source = "HERON (arXiv 2309.02632)"
    name = "hierarchy"

    def __init__(
        self, factors: Mapping[str, Reward],
        margins: float | Mapping[str, float] = 0.0, *, relative: bool = False,
        lower_is_better: Sequence[str] = (), reduce: Reducer = "bradley_terry",
        ridge: float = 0.01, head: HeadOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tuple(factors.values()))
        self.names, self.reduce, self.ridge, self.relative = tuple(factors), reduce, ridge, relative
        by_name = margins if isinstance(margins, Mapping) else dict.fromkeys(factors, margins)
        self.margins = np.array([by_name.get(name, 0.0) for name in factors])
        self.signs = np.array([-1.0 if name in lower_is_better else 1.0 for name in factors])
        self.head = head or HeadOptions()
        self.range = {
            "win_rate": (0.0, 1.0),
            "strict": (0.0, 1.0),
            "head": (-self.head.bound, self.head.bound),
        }.get(reduce, (-math.inf, math.inf))

    @classmethod
    def from_config(cls, value: object, where: str, build: Build) -> Self:
        """As any combinator; with `reduce: head` one that learns."""
        if cls is Hierarchy and isinstance(value, Mapping) and value.get("reduce") == "head":
            from vlrl.reward.combinators.hierarchy_head import LearntHierarchy

            learnt: Any = LearntHierarchy.from_config(value, where, build)
            return learnt
        return super().from_config(value, where, build)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; a rollout alone in its group does not apply."""
        columns = [score(child, rollouts) for child in self.children]
        table = np.array(
            [[np.nan if one.value is None else one.value for one in column] for column in columns],
            dtype=np.float64,
        ).T.reshape(len(rollouts), len(columns))
        table *= self.signs
        groups: dict[tuple[str, int], list[int]] = {}
        for i, rollout in enumerate(rollouts):
            if not np.isnan(table[i]).all():
                groups.setdefault((rollout.sample.id, rollout.group), []).append(i)
        found: list[float | None] = [None] * len(rollouts)
        for rows in groups.values():
            rows.sort(key=lambda i: rollouts[i].index)
            values = self._values(table[rows]) if len(rows) > 1 else ()
            for i, value in zip(rows, values, strict=False):
                found[i] = None if math.isnan(value) else float(value)
        return [
            self._join([column[i] for column in columns], value) for i, value in enumerate(found)
        ]

    def _values(self, factors: np.ndarray) -> Sequence[float]:
        """[G, F] -> [G]; nan where a rollout does not apply."""
        D = compared(factors, self._margins(factors))
        if self.reduce == "win_rate" or self.reduce == "strict":
            undecided = np.where(np.isnan(D), 0.0, D)
            return pairs.win_rate(undecided).tolist()
        return pairs.bradley_terry(0.5 * (D + 1.0), self.ridge).tolist()

    def _margins(self, factors: np.ndarray) -> np.ndarray:
        if not self.relative:
            return self.margins
        known = ~np.isnan(factors)
        mean = np.where(known, factors, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        squares = np.where(known, factors - mean, 0.0) ** 2
        std = np.sqrt(np.sort(squares, axis=0).sum(0) / np.maximum(known.sum(0), 1))
        return self.margins * std

    def _join(self, row: Sequence[Score], value: float | None) -> Score:
        parts: dict[str, float] = {}
        for name, node, one in zip(self.names, self.children, row, strict=True):
            if one.value is not None:
                parts[name] = one.value
            if node.children:
                parts |= {f"{name}_{key}": v for key, v in join_parts([(node, one)]).items()}
        if value is not None:
            parts[self.label or f"hierarchy_{self.reduce}"] = value
        return Score(value, parts)


def compared(factors: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Decisions about pairs, D [G, G] in {-1, 1}, nan where no factor decides, 0 on the diagonal.

    factors: [G, F], larger is better, nan = does not apply: such a factor decides no pair.
    """
    G = len(factors)
    D = np.full((G, G), np.nan)
    for column, margin in zip(factors.T, margins, strict=True):
        gap = column[:, None] - column[None, :]
        decides = np.isnan(D) & (np.abs(gap) > margin)
        D[decides] = np.sign(gap[decides])
    np.fill_diagonal(D, 0.0)
    return D
