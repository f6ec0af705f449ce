"""Weights that ZeRO-3 has split, put together piece by piece on the main rank's disk."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import deepspeed
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlrl.distributed.comm import World
from vlrl.distributed.ema import full_shape

PIECE_BYTES = 2**30
"""Gathered on every GPU at a time; a larger weight is a piece of its own."""


@contextmanager
def gathered_to_disk(
    parameters: Mapping[str, nn.Parameter], folder: Path, world: World
) -> Iterator[dict[str, torch.Tensor]]:
    """All weights by name on the main rank, memory-mapped; nothing on the others.

    A collective; the files live below `folder` while the context does, as large as the model.
    """
    aside: Path | None = None
    try:
        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".weights-", dir=folder))
        found: dict[str, torch.Tensor] = {}
        for number, names in enumerate(pieces(parameters, PIECE_BYTES)):
            with deepspeed.zero.GatheredParameters([parameters[name] for name in names]):
                if aside is not None:
                    file = aside / f"{number}.safetensors"
                    save_file({n: parameters[n].detach().cpu().contiguous() for n in names}, file)
                    found |= load_file(file)
        yield found
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def pieces(parameters: Mapping[str, nn.Parameter], limit_bytes: int) -> list[list[str]]:
    """Names in order, in pieces of at most so many bytes or one weight each; alike on all ranks."""
    found: list[list[str]] = []
    held = 0
    for name, parameter in parameters.items():
        size = math.prod(full_shape(parameter)) * parameter.element_size()
        if not found or held + size > limit_bytes:
            found.append([])
            held = 0
        found[-1].append(name)
        held += size
    return found
