"""Metrics that know how to be reduced: a mean is a sum and a count until all ranks are in."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vlrl.distributed.comm import World, all_gather

_MEAN, _SQUARE = "\0mean", "\0square"
"""Endings of names that `reduce` makes one number of."""


class Meter:
    """The metrics of one step on one rank."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._maxima: dict[str, float] = {}
        self._on_device: list[tuple[str, Tensor, float | None]] = []
        """Numbers that are still there, with their counts; None: a maximum is wanted."""

    def add(self, name: str, values: Iterable[float]) -> None:
        """Values whose mean over all ranks is wanted."""
        total, count = self._sums.get(name, (0.0, 0.0))
        for value in values:
            total, count = total + float(value), count + 1
        self._sums[name] = (total, count)

    def add_sum(self, name: str, total: float, count: float) -> None:
        """A sum and the number of its terms, for a mean over all ranks."""
        old_total, old_count = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = (old_total + total, old_count + count)

    def add_later(self, name: str, total: Tensor, count: float) -> None:
        """The same for a sum on the device; `reduce` reads all of these at once."""
        self._on_device.append((name, total.detach(), count))

    def effective_later(self, name: str, total: Tensor, squared: Tensor, count: float) -> None:
        """Weights, as their sum and that of their squares: the share of them that counts.

        The effective sample size over the sample size, (sum w)^2 / (n sum w^2), over all ranks.
        """
        self.add_later(name + _MEAN, total, count)
        self.add_later(name + _SQUARE, squared, count)

    def maximum_later(self, name: str, value: Tensor) -> None:
        """`maximum` for a number on the device."""
        self._on_device.append((name, value.detach(), None))

    def maximum(self, name: str, value: float) -> None:
        """A value whose largest over all ranks is wanted; nan wins."""
        old = self._maxima.get(name, -math.inf)
        self._maxima[name] = value if math.isnan(value) else max(old, value)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Seconds spent in the block, as `time/<name>_s`: the slowest rank counts."""
        start = time.perf_counter()
        yield
        key = f"time/{name}_s"
        self._maxima[key] = self._maxima.get(key, 0.0) + time.perf_counter() - start

    def reduce(self, world: World) -> dict[str, float]:
        """One number a name, over all ranks; sorted by name."""
        self._read()
        whole = Meter()
        for sums, maxima in all_gather((self._sums, self._maxima), world):
            for name, (total, count) in sums.items():
                whole.add_sum(name, total, count)
            for name, value in maxima.items():
                whole.maximum(name, value)
        means = {name: total / count for name, (total, count) in whole._sums.items() if count}
        for name in [name for name in means if name.endswith(_SQUARE)]:
            square, base = means.pop(name), name.removesuffix(_SQUARE)
            mean = means.pop(base + _MEAN)
            means[base] = mean * mean / square if square else 0.0
        return dict(sorted({**means, **whole._maxima}.items()))

    def _read(self) -> None:
        """Bring what is on the device here, in one go: each read waits for the device."""
        if not self._on_device:
            return
        numbers = torch.stack([value.double() for _, value, _ in self._on_device]).tolist()
        for (name, _, count), number in zip(self._on_device, numbers, strict=True):
            if count is None:
                self.maximum(name, number)
            else:
                self.add_sum(name, number, count)
        self._on_device = []
