"""Tensors in files of our own, with a checksum: a damaged one is an error, never other numbers."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlrl.errors import first_line, writing

_KEY = "sha256"


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write all at once or nothing: several ranks, also on other hosts, may write the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    aside = file.with_suffix(f".{secrets.token_hex(4)}")
    save_file(whole, aside, metadata={_KEY: _digest(whole)})
    os.replace(aside, file)


@contextmanager
def exporting(folder: str | Path) -> Iterator[None]:
    """Around the writing of a model: what fails in it is an OSError that names the folder."""
    try:
        with writing(folder):
            yield
    except SafetensorError as error:
        raise OSError(errno.EIO, f"{first_line(error)}; is the disk full?", str(folder)) from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """What `write_tensors` wrote; raises ValueError where the file is anything else."""
    try:
        with safe_open(file, framework="pt") as opened:
            written = (opened.metadata() or {}).get(_KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{str(file)!r}: {error}; delete the file, it is made again") from error
    if written != _digest(tensors):
        raise ValueError(
            f"{str(file)!r}: its content does not have its checksum; delete the file, it is made "
            "again"
        )
    return tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
