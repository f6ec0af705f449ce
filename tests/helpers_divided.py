"""Attention whose row is divided over ranks. A module without tests, for spawned processes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import torch
from helpers_fork import start_processes
from torch import Tensor, distributed, nn

from vlrl.families.encoded import Features, Media
from vlrl.families.family import Family
from vlrl.policy.vision_language.group_attention import group_attention
from vlrl.policy.vision_language.layout import Layout
from vlrl.policy.vision_language.packed.frames import divided_features
from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups
from vlrl.policy.vision_language.packed.slices import SlicedGroups

SPANS = (GroupSpan(0, 9, (3, 0, 4)), GroupSpan(16, 5, (6,)), GroupSpan(27, 2, (1, 1)))
LENGTH = 31


def inputs(heads: int, key_heads: int) -> list[Tensor]:
    """Query, key, value and the gradient of the output, [1, heads, L, D] each."""
    make = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, n, LENGTH, 8, generator=make) for n in (heads, key_heads, key_heads, heads)
    ]


def layout(predictor: Tensor) -> Layout:
    """A row of which only the groups and the predicting columns matter."""
    row = torch.zeros(1, LENGTH, dtype=torch.long)
    rows = torch.stack([torch.zeros_like(predictor), predictor])
    groups = PackedGroups(SPANS)
    return Layout(row, row[None], None, None, rows, predictor, groups)


def whole(heads: int, key_heads: int) -> list[Tensor]:
    """Output and gradients of the row on one rank, [1, heads, L, D] each."""
    query, key, value, grad = inputs(heads, key_heads)
    leaves = [x.requires_grad_() for x in (query, key, value)]
    out, _ = group_attention(nn.Module(), query, key, value, None, groups=PackedGroups(SPANS))
    out = out.transpose(1, 2)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


class InThreads:
    """The exchanges of ranks that are threads of one process, in plain torch."""

    def __init__(self, rank: int, size: int, meeting: Barrier, table: dict[int, Tensor]) -> None:
        self.rank, self.size, self.meeting, self.table = rank, size, meeting, table

    def all(self, x: Tensor) -> list[Tensor]:
        self.meeting.wait()
        self.table[self.rank] = x
        self.meeting.wait()
        return [self.table[rank] for rank in range(self.size)]

    def to_heads(self, x: Tensor) -> Tensor:
        return torch.cat([each.chunk(self.size, 2)[self.rank] for each in self.all(x)], 1)

    def to_columns(self, x: Tensor) -> Tensor:
        return torch.cat([each.chunk(self.size, 1)[self.rank] for each in self.all(x)], 2)

    def gathered(self, part: Tensor, sizes: Sequence[int]) -> Tensor:
        return torch.cat(self.all(part), 1)

    def whole(self, part: Tensor) -> Tensor:
        return torch.stack(self.all(part)).sum(0)


def in_threads(num: int, heads: int, key_heads: int) -> list[Tensor]:
    """Output and gradients of the ranks' slices, side by side."""
    meeting, table = Barrier(num), dict[int, Tensor]()
    query, key, value, grad = inputs(heads, key_heads)
    leaves = [x.requires_grad_() for x in (query, key, value)]

    def run(rank: int) -> Tensor:
        group = InThreads(rank, num, meeting, table)
        plan = SlicedGroups.of(layout(torch.zeros(1, dtype=torch.long)), group)
        own = [plan.own(x, 2) for x in leaves]
        return group_attention(nn.Module(), *own, None, groups=plan)[0].transpose(1, 2)

    with ThreadPoolExecutor(num) as pool:
        out = torch.cat(list(pool.map(run, range(num))), 2)[:, :, :LENGTH]
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def features_in_threads(family: Family, core: Any, media: Media, num: int) -> list[Features]:
    """Features of images and videos as each rank has them in the end."""
    meeting, table = Barrier(num), dict[int, Tensor]()

    def run(rank: int) -> Features:
        with torch.no_grad():
            group = InThreads(rank, num, meeting, table)
            return divided_features(family, core, media, group)

    with ThreadPoolExecutor(num) as pool:
        return list(pool.map(run, range(num)))


def on_ranks(folder: Path, num: int, heads: int, key_heads: int) -> list[Tensor]:
    """The same of the ranks' slices, side by side."""
    start_processes(_rank, (str(folder), num, heads, key_heads), num)
    parts = [torch.load(folder / f"rank{rank}.pt") for rank in range(num)]
    return [torch.cat(each, 2)[:, :, :LENGTH] for each in zip(*parts, strict=True)]


def _rank(rank: int, folder: str, num: int, heads: int, key_heads: int) -> None:
    import deepspeed
    import deepspeed.ops

    from vlrl.distributed.comm import World
    from vlrl.distributed.sequence import with_sequences

    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", num)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=num, timeout=timedelta(seconds=60)
    )
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else it is compiled
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    sequence = with_sequences(World(rank, num, torch.device("cpu")), num, 60).sequence
    assert sequence is not None
    plan = SlicedGroups.of(layout(torch.zeros(1, dtype=torch.long)), sequence)
    query, key, value, grad = (plan.own(x, 2) for x in inputs(heads, key_heads))
    leaves = [x.requires_grad_() for x in (query, key, value)]
    out, _ = group_attention(nn.Module(), query, key, value, None, groups=plan)
    out = out.transpose(1, 2)
    found = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    distributed.destroy_process_group()
