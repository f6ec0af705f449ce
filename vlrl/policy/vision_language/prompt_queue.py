"""Prompts encoded on threads while the model is busy: those of this step, then those of the next.

Decoding and resizing a screenshot takes longer than a step may: 0.3 s at 1080p, 1 s and more at 4K
on one core. Prompts and their values are the same as without threads; a prompt that cannot be read
raises where it would have been encoded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from vlrl.families.encoded import EncodedPrompt
from vlrl.families.reading import Reader
from vlrl.types import Sample

MAX_THREADS = 4
MAX_AHEAD = 256
"""Prompts that are encoded or waiting; pictures as patches take megabytes each."""


class PromptQueue:
    """Encoded prompts of the samples that come next."""

    def __init__(self, encoder: Reader, num_threads: int | None = None) -> None:
        """num_threads: 0 = encode when asked; None = what this rank's cores leave, at most four."""
        self.encoder = encoder
        if num_threads is None:
            num_threads = min(MAX_THREADS, torch.get_num_threads() - 1)
        self.num_threads = num_threads
        self.waited_s = 0.0
        """Time that callers have waited for prompts so far."""
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()
        # By the prompt's object, which every draw of a sample shares and the value keeps alive.
        self._coming: dict[int, tuple[Sample, Future[EncodedPrompt]]] = {}

    def expect(self, samples: Sequence[Sample]) -> None:
        """Encode these, in order, unless it is under way; forget all others."""
        if not self.num_threads:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.num_threads, "vlrl-prompts")
        wanted = {id(sample.prompt): sample for sample in samples[:MAX_AHEAD]}
        for key in [key for key in self._coming if key not in wanted]:
            self._coming.pop(key)[1].cancel()
        for key, sample in wanted.items():
            if key not in self._coming:
                self._coming[key] = (sample, self._pool.submit(self._encode, sample))

    def take(self, samples: Sequence[Sample]) -> list[EncodedPrompt]:
        """The prompts of samples, encoded here where they were not expected."""
        start = time.perf_counter()
        try:
            return [self._ready(sample)() for sample in samples]
        finally:
            self.waited_s += time.perf_counter() - start

    def _ready(self, sample: Sample) -> Callable[[], EncodedPrompt]:
        coming = self._coming.get(id(sample.prompt))
        return (lambda: self.encoder.encode(sample)) if coming is None else coming[1].result

    def _encode(self, sample: Sample) -> EncodedPrompt:
        """On a thread, with its own processor: tokenizers are not made for several at once."""
        mine: Reader | None = self._own.__dict__.get("encoder")
        if mine is None:
            mine = self._own.encoder = self.encoder.copied()
        return mine.encode(sample)
