"""Sequence parallelism by DeepSpeed-Ulysses (arXiv 2309.14509): who shares rows with whom.

    ranks 0 1 2 3, dist.sequence_parallel: 2   ->   {0, 1} and {2, 3}
    outside attention   each rank has L/N columns of the row and all heads
    in attention        each rank has all L columns and H/N heads, after an all-to-all

DeepSpeed's own optimizer is told nothing of it: every rank counts as one of data parallelism, and
computes the gradient of its own slice of a loss that all ranks of the row have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from deepspeed.sequence.layer import _SeqAllToAll
from torch import Tensor
from torch.nn.functional import pad

from vlrl.distributed.comm import World
from vlrl.distributed.waiting import waiting
from vlrl.errors import ConfigError

V = TypeVar("V")

COLUMNS, HEADS = 1, 2
"""Dimensions of what is exchanged, [1, L, H, D]."""


@dataclass(frozen=True)
class SequenceRanks:
    """This process among the ranks that share rows; see vlrl/protocols/sequence.py."""

    group: dist.ProcessGroup
    rank: int
    size: int
    device: torch.device

    def to_heads(self, x: Tensor) -> Tensor:
        """All columns of this rank's heads, [1, L/N, H, D] -> [1, L, H/N, D]."""
        found: Tensor = _SeqAllToAll.apply(self.group, x, HEADS, COLUMNS, 0)
        return found

    def to_columns(self, x: Tensor) -> Tensor:
        """The way back, [1, L, H/N, D] -> [1, L/N, H, D]."""
        found: Tensor = _SeqAllToAll.apply(self.group, x, COLUMNS, HEADS, 0)
        return found

    def gathered(self, part: Tensor, sizes: Sequence[int]) -> Tensor:
        """All ranks' parts side by side, [K, sizes[rank], D] -> [K, sum of sizes, D]."""
        found: Tensor = _Gathered.apply(part, tuple(sizes), self.rank, self.group)
        return found

    def whole(self, part: Tensor) -> Tensor:
        """The sum of all ranks' parts; its gradient is that of this rank's part alone."""
        found: Tensor = _Whole.apply(part, self.group)
        return found

    @waiting("sharing a chunk")
    def share(self, value: V, owner: int) -> V:
        """The value of the rank at a place of the group, on all of them; pickled between ranks."""
        box = [value if self.rank == owner else None]
        dist.broadcast_object_list(box, group=self.group, group_src=owner, device=self.device)
        found = box[0]
        assert found is not None
        return found


class _Whole(torch.autograd.Function):
    """All-reduce forward, nothing backward: every rank's loss has the gradient of its own part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = part.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Gathered(torch.autograd.Function):
    """Concatenation over ranks; back, the ranks' gradients are added up, and each takes its own."""

    @staticmethod
    def forward(
        ctx: Any, part: Tensor, sizes: tuple[int, ...], rank: int, group: dist.ProcessGroup
    ) -> Tensor:
        ctx.sizes, ctx.rank, ctx.group = sizes, rank, group
        filled = pad(part, (0, 0, 0, max(sizes) - part.shape[1]))
        found = [torch.empty_like(filled) for _ in sizes]
        dist.all_gather(found, filled, group=group)
        return torch.cat([x[:, :size] for x, size in zip(found, sizes, strict=True)], 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total.split(ctx.sizes, 1)[ctx.rank], None, None, None


def with_sequences(world: World, size: int, timeout_s: int) -> World:
    """The world whose ranks share rows, `size` neighbours each; all ranks call this.

    Raises ConfigError where the ranks cannot be divided so.
    """
    if world.size % size:
        raise ConfigError(
            f"dist.sequence_parallel ({size}) must divide the number of ranks ({world.size}): "
            "each row of the update is held by so many of them"
        )
    for first in range(0, world.size, size):
        # Every rank has to make every group.
        group = dist.new_group(
            list(range(first, first + size)), timeout=timedelta(seconds=timeout_s)
        )
        if first <= world.rank < first + size:
            own = SequenceRanks(group, world.rank - first, size, world.device)
    return replace(world, sequence=own)
