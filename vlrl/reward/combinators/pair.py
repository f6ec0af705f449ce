"""Comparisons inside a group become one number per rollout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from vlrl.protocols import Reward
from vlrl.reward.combinators import pair_statistics as pairs
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

Reducer = Literal["mean", "win_rate", "bradley_terry", "think_rm"]


@runtime_checkable
class Comparer(Protocol):
    """A reward that can compare two rollouts of one sample."""

    def preferences(self, pairs: Sequence[tuple[Rollout, Rollout]]) -> list[float]:
        """How much the first of each pair is preferred, signed; antisymmetric."""


class PairOptions(NodeOptions):
    """A node that compares, or gives numbers, and how comparisons become one number."""

    of: Node
    reduce: Reducer = "mean"
    eps: NonNegativeFloat = Field(1e-6, description="think_rm: added to the deviation")
    ridge: NonNegativeFloat = Field(0.01, description="bradley_terry: holds strengths to 0")
    mates: NonNegativeInt = Field(0, description="compare with the next so many only; 0 = with all")

    @model_validator(mode="after")
    def _has_all_pairs(self) -> PairOptions:
        if self.reduce == "think_rm" and self.mates:
            raise ValueError("reduce: think_rm needs all pairs; remove `mates`")
        return self


class Pair(Combinator):
    """A number for each rollout from its comparisons with the others of its group.

    Example: {pair: {of: {use: yes_token, judge: ...}, reduce: think_rm}}. `of` compares
    (yes_token), or gives a number per rollout; then a comparison is the difference of two numbers.

    reduce (default mean; eps 1e-6, ridge 0.01, mates 0):
      mean           mean signed preference over the others
      win_rate       share of the others that it beats, a tie counts half
      bradley_terry  strength of a Bradley-Terry fit to the preferences, `ridge`
      think_rm       Think-RM's pairwise advantage, `eps`; use with algo.advantage: precomputed
    mates: 0 compares with all; k with the next k of the group in a ring, by index.
    """

    Options = PairOptions
    formula = "reduce_j D_ij over the group, D the signed preferences; see pair_statistics.py"
    source = "Think-RM (arXiv 2505.16265); Bradley-Terry as in HERON; own"
    name = "pair"

    def __init__(
        self, of: Reward, reduce: Reducer = "mean", *, eps: float = 1e-6, ridge: float = 0.01,
        mates: int = 0,
    ) -> None:  # fmt: skip
        super().__init__((of,))
        self.of, self.reduce, self.eps, self.ridge, self.mates = of, reduce, eps, ridge, mates
        compares = isinstance(of, Comparer)
        low, high = of.range
        limit = 1.0 if compares and (low, high) == (0.0, 1.0) else high if compares else high - low
        unbounded = (-math.inf, math.inf)
        self.range = {"mean": (-limit, limit), "win_rate": (0.0, 1.0)}.get(reduce, unbounded)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; a group of one does not apply."""
        groups: dict[tuple[str, int], list[int]] = {}
        for i, rollout in enumerate(rollouts):
            groups.setdefault((rollout.sample.id, rollout.group), []).append(i)
        for rows in groups.values():
            # Who is next to whom in the ring must not depend on the order of the batch.
            rows.sort(key=lambda i: rollouts[i].index)
        parts: list[dict[str, float]] = [{}] * len(rollouts)
        if isinstance(self.of, Comparer):
            tables = self._compared(rollouts, list(groups.values()))
        else:
            tables, parts = self._differences(rollouts, list(groups.values()))
        scores: list[Score] = [Score(None)] * len(rollouts)
        for rows, D in zip(groups.values(), tables, strict=True):
            applies = ~np.isnan(np.diag(D))
            inside = [i for i, own in zip(rows, applies, strict=True) if own]
            if len(inside) < 2:
                continue
            values = self._reduced(D[np.ix_(applies, applies)])
            for i, value in zip(inside, values, strict=True):
                if not math.isnan(value):
                    scores[i] = self._score(float(value), parts[i])
        return scores

    def _compared(
        self, rollouts: Sequence[Rollout], groups: Sequence[list[int]]
    ) -> list[np.ndarray]:
        """Signed preferences of each group, all in one call."""
        assert isinstance(self.of, Comparer)
        wanted: list[tuple[int, int, int]] = []
        for g, rows in enumerate(groups):
            wanted += [(g, a, b) for a, b in chosen_pairs(len(rows), self.mates)]
        asked = [(rollouts[groups[g][a]], rollouts[groups[g][b]]) for g, a, b in wanted]
        tables = [np.full((len(rows), len(rows)), np.nan) for rows in groups]
        for D in tables:
            np.fill_diagonal(D, 0.0)
        found = self.of.preferences(asked) if asked else []
        for (g, a, b), preference in zip(wanted, found, strict=True):
            tables[g][a, b], tables[g][b, a] = preference, -preference
        return tables

    def _differences(
        self, rollouts: Sequence[Rollout], groups: Sequence[list[int]]
    ) -> tuple[list[np.ndarray], list[dict[str, float]]]:
        """Differences of numbers; a rollout that does not apply has nan everywhere."""
        scored = score(self.of, rollouts)
        tables = []
        for rows in groups:
            own = [scored[i].value for i in rows]
            D = pairs.differences(np.array([np.nan if v is None else v for v in own], dtype=float))
            if self.mates:
                kept = np.eye(len(rows), dtype=bool)
                for a, b in chosen_pairs(len(rows), self.mates):
                    kept[a, b] = kept[b, a] = True
                D = np.where(kept, D, np.nan)
            tables.append(D)
        return tables, [join_parts([(self.of, one)]) for one in scored]

    def _reduced(self, D: np.ndarray) -> np.ndarray:
        if self.reduce == "mean":
            return pairs.mean_preference(D)
        if self.reduce == "win_rate":
            return pairs.win_rate(D)
        if self.reduce == "think_rm":
            return pairs.pairwise_advantage(D, self.eps)
        if isinstance(self.of, Comparer) and self.of.range == (0.0, 1.0):
            P = 0.5 * (D + 1.0)
        else:
            P = 1.0 / (1.0 + np.exp(-np.clip(D, -30, 30)))
        return pairs.bradley_terry(P, self.ridge)

    def _score(self, value: float, parts: Mapping[str, float]) -> Score:
        own = {self.label or f"{self.of.name}_{self.reduce}": value}
        return Score(value, {**parts, **own})


def chosen_pairs(G: int, mates: int) -> list[tuple[int, int]]:
    """Pairs (a, b) of a group of G: all, or each with the next `mates` in a ring, none twice."""
    if not mates or mates >= G - 1:
        return [(a, b) for a in range(G) for b in range(a + 1, G)]
    ring = {frozenset((a, (a + k) % G)) for a in range(G) for k in range(1, mates + 1)}
    return sorted((min(pair), max(pair)) for pair in ring if len(pair) == 2)
