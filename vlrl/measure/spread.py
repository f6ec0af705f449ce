"""Some of many, from beginning to end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")


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
