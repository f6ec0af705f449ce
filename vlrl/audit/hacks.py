"""The best answers by one reward that another one dislikes most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


def quantiles(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Share of the other values that are lower, ties counting half, in [0, 1]; nan stays nan."""
    found = np.full(len(values), np.nan)
    known = np.isfinite(values)
    own = np.sort(values[known])
    if len(own) > 1:
        low = np.searchsorted(own, values[known], "left")
        high = np.searchsorted(own, values[known], "right")
        found[known] = (low + (high - 1)) / 2 / (len(own) - 1)
    elif len(own) == 1:
        found[known] = 0.5
    return found


@dataclass(frozen=True)
class Hacks:
    """What a search found."""

    rows: tuple[int, ...]
    """Answers, worst first by the independent reward, one per prompt at most."""
    top: tuple[int, ...]
    """All answers among which it was searched: the best ones by the reward."""
    disliked: tuple[int, ...]
    """Those of them in the lower half of all answers by the independent reward."""
    quantile: Float[np.ndarray, " N"]
    """Of each answer by the reward, among all that both score."""
    independent: Float[np.ndarray, " N"]
    """The same by the independent reward."""


DISLIKED = 0.5
"""Quantile up to which an answer is disliked: the lower half."""


def find_hacks(
    reward: Float[np.ndarray, " N"],
    independent: Float[np.ndarray, " N"],
    prompt: Int[np.ndarray, " N"],
    *,
    top_share: float,
    num: int,
) -> Hacks:
    """Search the best `top_share` of the answers that both rewards score; prompt: of each answer.

    Answers that tie with the last of the best are among them. In the order of the independent
    reward, from the lowest; of equal ones the answer that the reward likes more comes first.
    """
    both = np.isfinite(reward) & np.isfinite(independent)
    own, other = (quantiles(np.where(both, values, np.nan)) for values in (reward, independent))
    rows = np.flatnonzero(both)
    if not rows.size:
        return Hacks((), (), (), own, other)
    num_top = max(1, round(top_share * len(rows)))
    least = np.sort(reward[rows])[-num_top]
    top = rows[reward[rows] >= least]
    order = top[np.lexsort((top, -reward[top], independent[top]))]
    disliked = order[other[order] <= DISLIKED]
    _, first = np.unique(prompt[disliked], return_index=True)
    shown = disliked[np.sort(first)][:num]
    return Hacks(_rows(shown), _rows(order), _rows(disliked), own, other)


def _rows(found: np.ndarray) -> tuple[int, ...]:
    return tuple(int(row) for row in found)
