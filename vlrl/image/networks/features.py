"""Features, rounded to the precision of the cache; those of references are computed once.

images ───> backbone ─> rounded ────────────────────────> head
references ─> backbone ─> rounded ─> memory, maybe disk ──> head
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from vlrl.errors import DataError, RewardError
from vlrl.media.images import image_array
from vlrl.tensor_files import read_tensors, write_tensors

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
FILE_FORMAT = 3
"""Format of cached features, part of their folder's name."""


class Features(Protocol):
    """A fixed network that gives cls [N, D] and patches [N, P, D] of images."""

    fingerprint: str

    def features(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]: ...


class RoundedFeatures:
    """A backbone's features, rounded to the dtype in which they are cached.

    Applied to images and references alike, cached or not: if only references were rounded, the
    missing bits would tell them from generated images.
    """

    def __init__(self, backbone: Features, dtype: Literal["fp32", "fp16"]) -> None:
        self.backbone, self.dtype = backbone, DTYPES[dtype]
        self.fingerprint = f"{backbone.fingerprint}-{dtype}-{FILE_FORMAT}"

    def features(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """uint8 [H, W, 3] each -> cls [N, D], patches [N, P, D]; RewardError on overflow.

        Plain tensors even if the caller is in inference mode: a head may train on them.
        """
        cls, patches = self.backbone.features(images)
        if self.dtype == torch.float32:
            return cls, patches
        with torch.inference_mode(False), torch.no_grad():
            cls, patches = cls.to(self.dtype), patches.to(self.dtype)
            if not bool(cls.isfinite().all() & patches.isfinite().all()):
                raise RewardError(
                    "an image's features exceed 65504, the largest number in fp16; set "
                    "feature_dtype: fp32"
                )
        return cls, patches


class ReferenceFeatures:
    """CLS and patch features by path; a least-recently-used cache in memory.

    Files are named by backbone, dtype and the image's bytes: a changed image or another backbone
    is computed anew.
    """

    def __init__(self, backbone: Features, folder: str | None, limit_bytes: int) -> None:
        self.backbone, self.limit_bytes = backbone, limit_bytes
        self.folder = None if folder is None else Path(folder) / backbone.fingerprint
        self._kept: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self.num_bytes = 0
        """Memory in use."""
        self.num_computed = 0

    def of(self, paths: Sequence[str]) -> tuple[Tensor, Tensor]:
        """cls [N, D] and patches [N, P, D] on CPU, in order; RewardError for a bad file."""
        found = {path: self._one(path) for path in dict.fromkeys(paths)}
        rows = [found[path] for path in paths]
        return torch.stack([cls for cls, _ in rows]), torch.stack([p for _, p in rows])

    def _one(self, path: str) -> tuple[Tensor, Tensor]:
        pair = self._kept.pop(path, None)
        if pair is None:
            pair = self._from_disk_or_backbone(path)
            self.num_bytes += _size(pair)
        self._kept[path] = pair  # moved to the end: most recently used
        while self.num_bytes > self.limit_bytes:
            self.num_bytes -= _size(self._kept.popitem(last=False)[1])
        return pair

    def _from_disk_or_backbone(self, path: str) -> tuple[Tensor, Tensor]:
        file = self._file(path)
        if file is not None and file.is_file():
            return _read(file)
        # One by one: the rest of a batch changes the last bits, and a resumed run batches
        # references differently.
        cls, patches = self.backbone.features([read_image(path)])
        pair = (cls[0].cpu().clone(), patches[0].cpu().clone())
        self.num_computed += 1
        if file is not None:
            write_tensors(file, {"cls": pair[0], "patches": pair[1]})
        return pair

    def _file(self, path: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{hashlib.sha256(_bytes(path)).hexdigest()[:32]}.safetensors"


def read_image(path: str) -> np.ndarray:
    """uint8 [H, W, 3]; raises RewardError that names the file."""
    try:
        return image_array(path)
    except DataError as error:
        raise RewardError(f"the reference {path!r} cannot be read: {error}") from error


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RewardError(f"the reference {path!r} cannot be read: {error}") from error


def _size(pair: tuple[Tensor, Tensor]) -> int:
    return sum(part.nbytes for part in pair)


def _read(file: Path) -> tuple[Tensor, Tensor]:
    try:
        state = read_tensors(file)
        return state["cls"], state["patches"]
    except (ValueError, KeyError) as error:
        raise RewardError(f"cached features {error}") from error
