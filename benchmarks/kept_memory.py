"""Bytes that autograd keeps for the backward pass, at their peak."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


class Peak(Protocol):
    """The running peak."""

    peak_bytes: int


class _Kept:
    """A saved tensor; its storage counts once, while anything that shares it lives."""

    live: ClassVar[dict[int, list[int]]] = {}
    bytes_now = 0
    bytes_peak = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        storage = tensor.untyped_storage()
        self.key = storage.data_ptr()
        entry = _Kept.live.setdefault(self.key, [0, storage.nbytes()])
        entry[0] += 1
        if entry[0] == 1:
            _Kept.bytes_now += entry[1]
            _Kept.bytes_peak = max(_Kept.bytes_peak, _Kept.bytes_now)

    def __del__(self) -> None:
        entry = _Kept.live[self.key]
        entry[0] -= 1
        if entry[0] == 0:
            _Kept.bytes_now -= entry[1]
            del _Kept.live[self.key]


@contextlib.contextmanager
def measured_memory(parameters: Iterator[Tensor], times: Peak) -> Iterator[None]:
    """Measure the peak of what is kept for backward passes inside, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    _Kept.bytes_now = _Kept.bytes_peak = 0

    def pack(tensor: Tensor) -> Any:
        return tensor if tensor.untyped_storage().data_ptr() in own else _Kept(tensor)

    def unpack(kept: Any) -> Tensor:
        return kept.tensor if isinstance(kept, _Kept) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
    times.peak_bytes = _Kept.bytes_peak
