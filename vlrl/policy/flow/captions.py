"""Encodes all prompts once, before training, after which the text encoders are freed.

prompts ─> batches ─┬─> rank 0 encodes the first ──┐
                    ├─> rank 1 encodes the second ─┼─> every rank has all of them: through the
                    └─> ...                        ┘   folder where all see it, else by broadcast
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vlrl.distributed.comm import World, all_gather, barrier, broadcast, current
from vlrl.errors import ConfigError
from vlrl.policy.flow.trajectory import EncodedCaption
from vlrl.tensor_files import read_tensors, write_tensors

Encoded = tuple[Tensor, Tensor]
"""context [R, L, D] and pooled [R, D'] of R prompts."""
Encode = Callable[[Sequence[str]], Encoded]
Layout = Sequence[tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype of one prompt's part of each tensor."""
FILE_FORMAT = 2
"""Format of the files, part of their folder's name."""
MEMORY_LIMIT_BYTES = 4 * 2**30
BATCH_SIZE = 16


class CaptionStore:
    """Encoded prompts, in memory or in a folder that several ranks and runs may share.

    `fingerprint` names the encoders and their settings, so that a folder never mixes two models.
    """

    def __init__(self, folder: str | None, fingerprint: str) -> None:
        name = _digest(f"{FILE_FORMAT} {fingerprint}")
        self.folder = None if folder is None else Path(folder) / name
        self._kept: dict[str, EncodedCaption] = {}

    def fill(self, texts: Iterable[str], encode: Encode) -> int:
        """Encode what is missing, each rank its share; returns the number of missing prompts.

        All ranks of a run call this with the same texts and end with all of them. Batches are
        the same as on a single rank, and so is every number. Raises ConfigError where
        memory would not hold them all.
        """
        world = current()
        wanted = list(dict.fromkeys(texts))
        writers = self._writers(world)
        is_writer = world.rank in writers
        missing = self._missing(wanted, is_writer, world)
        batches = [missing[i : i + BATCH_SIZE] for i in range(0, len(missing), BATCH_SIZE)]
        layout: Layout = ()
        for first in range(0, len(batches), world.size):
            part = batches[first : first + world.size]
            made = encode(part[world.rank]) if world.rank < len(part) else None
            if not first:
                layout = _agreed_layout(made, world)
                self._check_size(len(missing), layout)
            if len(writers) == 1:
                if made is not None:
                    self._put_all(part[world.rank], made)
                continue
            for source, batch in enumerate(part):
                encoded = _broadcast(made, source, len(batch), layout, world)
                if is_writer:
                    self._put_all(batch, encoded)
        barrier(world)  # a rank may read at once what another one has written
        return len(missing)

    def _writers(self, world: World) -> set[int]:
        """Ranks that store the encodings: the first rank of all that see the same folder.

        Whether nodes share a file system is found by trial: each rank leaves a mark.
        """
        if world.size == 1:
            return {0}
        if self.folder is None:
            return set(range(world.size))
        name = all_gather(secrets.token_hex(8), world)[0]
        self.folder.mkdir(parents=True, exist_ok=True)
        marks = [self.folder / f".{name}-{rank}" for rank in range(world.size)]
        marks[world.rank].touch()
        barrier(world)
        seen = next(rank for rank, mark in enumerate(marks) if mark.is_file())
        firsts = all_gather(seen, world)
        marks[world.rank].unlink()
        return {rank for rank, first in enumerate(firsts) if rank == first}

    def _missing(self, wanted: Sequence[str], is_writer: bool, world: World) -> list[str]:
        """Texts that some writer lacks, in order; the same on all ranks."""
        names: set[str] = set()
        if is_writer and self.folder is not None and self.folder.is_dir():
            # Listed, not looked up one by one: a network file system caches for a minute that a
            # file is missing, even after another node has written it.
            names = set(os.listdir(self.folder))
        lacking = bytes(
            is_writer and text not in self._kept and f"{_digest(text)}.safetensors" not in names
            for text in wanted
        )
        found = all_gather((_digest("\0".join(wanted)), lacking), world)
        if len({digest for digest, _ in found}) > 1:
            raise ValueError("the ranks prepare different prompts; pass all samples on every rank")
        return [
            text
            for text, *lacked in zip(wanted, *(one for _, one in found), strict=True)
            if any(lacked)
        ]

    def __getitem__(self, text: str) -> EncodedCaption:
        if text in self._kept:
            return self._kept[text]
        if self.folder is not None and self._path(text).is_file():
            try:
                state = read_tensors(self._path(text))
                return EncodedCaption(state["context"], state["pooled"])
            except (ValueError, KeyError) as error:
                raise ConfigError(f"policy.prompt_cache: {error}") from error
        raise ConfigError(
            f"the prompt {text!r} was not encoded before the text encoders were freed; "
            "pass its sample to policy.prepare"
        )

    def _put_all(self, texts: Sequence[str], encoded: Encoded) -> None:
        context, pooled = encoded
        for row, text in enumerate(texts):
            self._put(text, EncodedCaption(context[row].cpu(), pooled[row].cpu()))

    def _put(self, text: str, encoded: EncodedCaption) -> None:
        if self.folder is None:
            self._kept[text] = EncodedCaption(encoded.context.clone(), encoded.pooled.clone())
            return
        tensors = {"context": encoded.context, "pooled": encoded.pooled}
        write_tensors(self._path(text), tensors)

    def _path(self, text: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{_digest(text)}.safetensors"

    def _check_size(self, count: int, layout: Layout) -> None:
        """Checked on all ranks alike, so that none waits for one that has raised."""
        if self.folder is not None:
            return
        size = count * sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in layout)
        if size > MEMORY_LIMIT_BYTES:
            raise ConfigError(
                f"policy: {count} encoded prompts take {size / 2**30:.0f} GiB of memory per rank; "
                "set policy.prompt_cache to a folder, or policy.max_prompt_tokens lower"
            )


def _agreed_layout(made: Encoded | None, world: World) -> Layout:
    """The layout on rank 0, which always has a batch; the last ranks may have none."""
    mine = [(tuple(t.shape[1:]), t.dtype) for t in made or ()]
    layouts: list[Layout] = all_gather(mine, world)
    return layouts[0]


def _broadcast(
    made: Encoded | None, source: int, num_rows: int, layout: Layout, world: World
) -> Encoded:
    """The source's batch on every rank; one batch at a time, to bound memory."""
    parts = []
    for place, (shape, dtype) in enumerate(layout):
        if source == world.rank:
            assert made is not None
            part = made[place].to(world.device).contiguous()
        else:
            part = torch.empty(num_rows, *shape, dtype=dtype, device=world.device)
        # As bytes: gloo does not support every dtype.
        broadcast([part.view(torch.uint8)], world, source)
        parts.append(part)
    context, pooled = parts
    return context, pooled


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
