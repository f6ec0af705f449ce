"""Features of reference pictures, computed once and kept: in memory, and on disk if wished."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlrl.errors import RewardError


class Features(Protocol):
    """A frozen backbone."""

    fingerprint: str

    def features(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]: ...


class ReferenceFeatures:
    """CLS and patch features by the path of the picture.

    The files are named by backbone and by the picture's bytes: a changed picture or another
    backbone is computed afresh.
    """

    def __init__(self, backbone: Features, folder: str | None, limit: int = 20_000) -> None:
        self.backbone, self.limit = backbone, limit
        self.folder = None if folder is None else Path(folder) / backbone.fingerprint
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}
        self.num_computed = 0

    def of(self, paths: Sequence[str]) -> tuple[Tensor, Tensor]:
        """cls [N, D] and patches [N, P, D] on CPU, in order; RewardError for a bad file."""
        self._fill(list(dict.fromkeys(paths)))
        found = [self._kept[path] for path in paths]
        if len(self._kept) > self.limit:
            self._kept.clear()
        return torch.stack([cls for cls, _ in found]), torch.stack([p for _, p in found])

    def _fill(self, paths: Sequence[str]) -> None:
        new: list[tuple[str, Path | None, np.ndarray]] = []
        for path in paths:
            if path in self._kept:
                continue
            file = self._file(path)
            if file is not None and file.is_file():
                state = load_file(file)
                self._kept[path] = (state["cls"], state["patches"])
            else:
                new.append((path, file, read_picture(path)))
        if not new:
            return
        self.num_computed += len(new)
        for path, file, image in new:
            # One by one: what else is in a batch moves the last bits, and a resumed run meets
            # the references in another company.
            cls, patches = self.backbone.features([image])
            self._kept[path] = (cls[0].cpu().clone(), patches[0].cpu().clone())
            if file is not None:
                _write(file, *self._kept[path])

    def _file(self, path: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{hashlib.sha256(_bytes(path)).hexdigest()[:32]}.safetensors"


def read_picture(path: str) -> np.ndarray:
    """uint8 [H, W, 3]; raises RewardError that names the file."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))  # a copy: torch warns of one it cannot write
    except OSError as error:
        raise RewardError(f"the reference {path!r} cannot be read: {error}") from error


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RewardError(f"the reference {path!r} cannot be read: {error}") from error


def _write(file: Path, cls: Tensor, patches: Tensor) -> None:
    """Whole or not at all: ranks may write the same picture at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    save_file({"cls": cls, "patches": patches}, aside)
    os.replace(aside, file)
