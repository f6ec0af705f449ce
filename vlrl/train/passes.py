"""The forward passes of an update: which rows each is about, and as many of them on every rank.

Where ranks share rows (`dist.sequence_parallel`), they go through the chunks of all of them
together: at each pass one is the owner, and tells the others what its chunk holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic

import torch
from torch import Tensor

from vlrl.distributed.comm import World, all_max
from vlrl.protocols import Policy, T


@dataclass(frozen=True)
class Pass(Generic[T]):
    """A chunk of one rank's rows, on every rank that makes the pass."""

    trajectory: T
    """Of the chunk."""
    values: tuple[Tensor | None, ...]
    """What was asked for beside it, of the same rows."""
    rows: list[int]
    """Where they are in the owner's batch."""
    is_real: bool
    """False: counts 0, and is made because other ranks have more chunks."""
    is_own: bool = True

    @property
    def is_counted(self) -> bool:
        """Whether this rank reports on it and keeps what comes out of it."""
        return self.is_real and self.is_own


def passes(
    policy: Policy[T],
    trajectory: T,
    rows: list[int],
    world: World,
    values: Sequence[Tensor | None] = (),
) -> Iterator[Pass[T]]:
    """The passes over some rows of this rank's, and over those of ranks that share rows with it.

    values: of all rows of the trajectory, [B, ...] each.
    """
    ranks = world.sequence
    for chunk, is_real in _chunks(policy, trajectory, rows, world):
        kept = chunk if ranks is None else _by_group(trajectory, chunk)
        own = Pass(
            trajectory.select(kept),
            tuple(None if value is None else value[kept] for value in values),
            kept,
            is_real,
        )
        if ranks is None:
            yield own
            continue
        own = replace(own, trajectory=_alone(own.trajectory))
        for owner in range(ranks.size):
            yield replace(ranks.share(own, owner), is_own=owner == ranks.rank)


@torch.no_grad()
def collected(
    policy: Policy[T],
    trajectory: T,
    parts: Sequence[list[int]],
    world: World,
    find: Callable[[T], Tensor],
) -> Tensor | None:
    """What passes over some parts of the rows find, [B, ...]; 0 in other rows, None without a pass.

    find: a chunk -> a value for each of its rows, [b, ...].
    """
    whole: Tensor | None = None
    for rows in parts:
        for one in passes(policy, trajectory, rows, world):
            found = find(one.trajectory)
            if one.is_own and whole is None:
                whole = found.new_zeros((len(trajectory), *found.shape[1:]))
            if one.is_counted and whole is not None:
                whole[one.rows] = found
    return whole


def _by_group(trajectory: T, chunk: list[int]) -> list[int]:
    """The rows of a chunk, group by group."""
    groups = trajectory.group.tolist()
    order = list(dict.fromkeys(groups[row] for row in chunk))
    return sorted(chunk, key=lambda row: order.index(groups[row]))


def _alone(trajectory: T) -> T:
    """The same rows without the prompts of others; rows lie group by group."""
    groups = dict.fromkeys(trajectory.group.tolist())
    return type(trajectory).join([trajectory.only_group(group) for group in groups])


def _chunks(
    policy: Policy[T], trajectory: T, rows: list[int], world: World
) -> list[tuple[list[int], bool]]:
    """The rows' chunks, filled up to the largest number of any rank with chunks that count 0.

    ZeRO-3 gathers weights inside every forward, so all ranks must make equally many. What fills up
    keeps to the budget too: the smallest chunk of the first group.
    """
    chunks = policy.plan(trajectory, rows) if rows else []
    real = [(chunk, True) for chunk in chunks]
    num_missing = int(all_max(len(chunks), world)) - len(chunks)
    if not num_missing:
        return real
    first = int(trajectory.group[0])
    filler = policy.plan(trajectory, (trajectory.group == first).nonzero()[:, 0].tolist())[0]
    return real + [(filler, False)] * num_missing
