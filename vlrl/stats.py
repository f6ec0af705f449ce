"""Intervals for means and paired differences, and evenly spread subsets; pure functions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def bootstrap_mean(
    values: Sequence[float], num_resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, float]:
    """Mean with a percentile bootstrap interval: {"mean", "low", "high", "num"}."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("the mean of no values")
    rng = np.random.default_rng(seed)
    means = np.array(
        [data[rng.integers(0, data.size, data.size)].mean() for _ in range(num_resamples)]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return {
        "mean": float(data.mean()),
        "low": float(low),
        "high": float(high),
        "num": int(data.size),
    }


def bootstrap_difference(
    before: Sequence[float],
    after: Sequence[float],
    num_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Mean of after - before over paired samples, with its interval."""
    if len(before) != len(after):
        raise ValueError(f"not paired: {len(before)} values before, {len(after)} after")
    pairs = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return bootstrap_mean(pairs.tolist(), num_resamples, level, seed)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that two paired classifiers are equally often right.

    Only the items on which they differ count: under equality each is a fair coin (McNemar 1947,
    in its exact binomial form).
    """
    num, few = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(num, k) for k in range(few + 1))
    return min(1.0, 2 * tail / 2**num)


def rank_ties_last(leads: Sequence[float]) -> int:
    """Place of one among others from how far it is ahead of each; ties put it last of them."""
    return 1 + sum(lead <= 0 for lead in leads)


def evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, evenly spaced over the whole; 0 = all."""
    if not limit or limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def one_a_stretch(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, in order, the same ones every time; 0 = all.

    One of each stretch, at a random place in it: where items go round their kinds, even steps
    would always meet the same one.
    """
    if not limit or limit >= len(items):
        return list(items)
    rng = random.Random(0)
    ends = [i * len(items) // limit for i in range(limit + 1)]
    return [items[rng.randrange(start, end)] for start, end in pairwise(ends)]


def macro_mean(
    groups: Sequence[str], right: Sequence[bool], num_resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """The mean over groups of each group's share of right items.

    {"mean", "low", "high", "num"} with a 95 % bootstrap interval: items are drawn anew within
    each group, whose numbers are fixed. `num` counts items.
    """
    if not groups:
        raise ValueError("the macro mean of no items")
    by_group: dict[str, list[float]] = {}
    for group, is_right in zip(groups, right, strict=True):
        by_group.setdefault(group, []).append(float(is_right))
    rng = np.random.default_rng(seed)
    drawn = np.zeros(num_resamples)
    for one in by_group.values():
        # Right items among as many drawn with replacement: no need to draw them one by one.
        drawn += rng.binomial(len(one), np.mean(one), num_resamples) / len(one)
    low, high = np.quantile(drawn / len(by_group), [0.025, 0.975])
    return {
        "mean": float(np.mean([np.mean(one) for one in by_group.values()])),
        "low": float(low),
        "high": float(high),
        "num": len(groups),
    }
