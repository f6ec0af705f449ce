"""How far apart two rewards are on the same answers, and what swapping them would do.

Source: STARC (arXiv 2309.15257): a reward is brought into a canonical form, divided by its norm,
and compared. An answer is the whole of an episode here: there is no next state, so the canonical
form only takes away each prompt's mean over its answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

NO_SPREAD = 1e-12
"""Spread, relative to the largest reward, from which on it is rounding and not a preference."""


def comparable(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"], group: Int[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Answers with both rewards (nan: does not apply), in groups that have two or more of them."""
    both = np.isfinite(first) & np.isfinite(second)
    counts = np.bincount(group, weights=both, minlength=1)
    return both & (counts[group] >= 2)


def canonical(
    values: Float[np.ndarray, " N"], group: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Rewards less their group's mean, divided by their norm; 0 where no group has a spread.

    The norm is the root of the mean over groups of the mean square in each, so that a prompt with
    more answers does not count for more.
    """
    weights = group_weights(group)
    counts = np.bincount(group)
    means = np.bincount(group, weights=values) / np.maximum(counts, 1)
    centred = values - means[group]
    norm = float(np.sqrt(np.sum(weights * centred**2)))
    if norm <= NO_SPREAD * float(np.abs(values).max(initial=0.0)):
        return np.zeros(len(values))
    return centred / norm


def group_weights(group: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """1 / (number of groups x answers of the own group); they add up to 1."""
    counts = np.bincount(group)
    return 1.0 / (np.count_nonzero(counts) * counts[group])


def starc(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"], group: Int[np.ndarray, " N"]
) -> float:
    """Half the norm of the difference of the two canonical forms, in [0, 1]; nan without answers.

    0 for the same preferences (positive scale, shifts per prompt), 1 for opposite ones, 1/2 where
    one reward tells no answers apart, 0.71 for unrelated ones: sqrt((1 - r) / 2) with r the
    correlation within prompts. The paper's own scale is twice this one.
    """
    keep = comparable(first, second, group)
    if not keep.any():
        return float("nan")
    inside = group[keep]
    gap = canonical(first[keep], inside) - canonical(second[keep], inside)
    return min(1.0, 0.5 * float(np.sqrt(np.sum(group_weights(inside) * gap**2))))


def starc_by_prompt(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"], group: Int[np.ndarray, " N"]
) -> dict[int, float]:
    """The same distance in each group by itself, also scaled there; groups that have one."""
    keep = comparable(first, second, group)
    inside = np.flatnonzero(keep)
    return {
        g: starc(first[own], second[own], np.zeros(len(own), dtype=np.int64))
        for g, places in rows_by_group(group[inside])
        for own in [inside[places]]
    }


def rows_by_group(group: Int[np.ndarray, " N"]) -> Iterator[tuple[int, np.ndarray]]:
    """(group, its rows in order) for every group that has any."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        if rows.size:
            yield int(group[rows[0]]), rows


@dataclass(frozen=True)
class Reversal:
    """Two answers to one prompt that two rewards order differently."""

    better_by_first: int
    """Row."""
    better_by_second: int
    strength: float
    """The smaller of the two leads, each over the spread (norm) of its reward."""


@dataclass(frozen=True)
class Orders:
    """How two rewards order pairs of answers to the same prompt."""

    num_pairs: int
    alike: float
    """Share of pairs in the same order, or tied in both."""
    reversed: float
    tied_in_one: float
    worst: tuple[Reversal, ...]
    """The strongest reversals, one per prompt at most."""


def orders(
    first: Float[np.ndarray, " N"],
    second: Float[np.ndarray, " N"],
    group: Int[np.ndarray, " N"],
    num_named: int,
) -> Orders:
    """Compare the orders of all pairs within prompts, and name the strongest reversals."""
    keep = comparable(first, second, group)
    leads = [np.full(len(first), np.nan), np.full(len(first), np.nan)]
    for lead, values in zip(leads, (first, second), strict=True):
        lead[keep] = canonical(values[keep], group[keep])
    found: list[Reversal] = []
    num_pairs = num_alike = num_reversed = 0
    for _, rows in rows_by_group(group):
        inside = rows[keep[rows]]
        i, j = np.triu_indices(len(inside), 1)
        one, other = (_gaps(lead[inside[i]], lead[inside[j]]) for lead in leads)
        is_reversed = one * other < 0
        num_pairs += len(i)
        num_reversed += int(is_reversed.sum())
        num_alike += int(np.sum(np.sign(one) == np.sign(other)))
        if is_reversed.any():
            strength = np.where(is_reversed, np.minimum(np.abs(one), np.abs(other)), -1.0)
            k = int(strength.argmax())
            pair = (int(inside[i[k]]), int(inside[j[k]]))
            found.append(Reversal(*(pair if one[k] > 0 else pair[::-1]), float(strength[k])))
    found.sort(key=lambda pair: -pair.strength)
    share = 1.0 / max(1, num_pairs)
    num_tied = num_pairs - num_alike - num_reversed
    return Orders(
        num_pairs,
        num_alike * share,
        num_reversed * share,
        num_tied * share,
        tuple(found[:num_named]),
    )


def _gaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Differences, 0 where they are rounding."""
    gaps = one - other
    return np.where(np.abs(gaps) > 1e-9, gaps, 0.0)


@dataclass(frozen=True)
class AdvantageChange:
    """What another reward would do to the group-normalised advantages."""

    first: Float[np.ndarray, " N"]
    """(reward - mean) / (std + eps) in its group; nan where either reward does not apply."""
    second: Float[np.ndarray, " N"]
    mean_change: float
    """Mean absolute difference."""
    turned: float
    """Share of answers that one pushes up and the other down."""


def advantage_change(
    first: Float[np.ndarray, " N"],
    second: Float[np.ndarray, " N"],
    group: Int[np.ndarray, " N"],
    eps: float = 1e-4,
) -> AdvantageChange:
    """Group z-scores of both rewards on the answers that both score (GRPO's advantage)."""
    import torch

    from vlrl.algo.advantages import advantages

    keep = comparable(first, second, group)

    def normalised(values: np.ndarray) -> np.ndarray:
        column = np.full(len(values), np.nan)
        if keep.any():
            rewards = torch.from_numpy(values[keep]).float()
            own = torch.from_numpy(group[keep])
            column[keep] = advantages(rewards, own, "group_zscore", eps=eps).double().numpy()
        return column

    one, other = normalised(first), normalised(second)
    if not keep.any():
        return AdvantageChange(one, other, float("nan"), float("nan"))
    a, b = one[keep], other[keep]
    turned = (np.abs(a) > 1e-6) & (np.abs(b) > 1e-6) & (np.sign(a) != np.sign(b))
    return AdvantageChange(one, other, float(np.abs(a - b).mean()), float(turned.mean()))
