"""Prompts encoded on threads while the model is busy: those of this step, then those of the next.

Decoding and resizing a screenshot takes longer than a step may: 0.3 s at 1080p, 1 s and more at 4K
on one core. Prompts and their values are the same as without threads; a prompt that cannot be read
raises where it would have been encoded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vlrl.families.encoded import EncodedPrompt
from vlrl.families.reading import Reader
from vlrl.types import Sample

MAX_THREADS = 4
MAX_AHEAD = 256
"""Prompts that are encoded or waiting."""
MAX_BYTES = 4 * 2**30
"""Of those that are kept, and of those under way if they are as large as the largest so far."""


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
        self._lock = threading.RLock()
        # By the prompt's object, which every draw of a sample shares and the value keeps alive.
        self._coming: dict[int, tuple[Sample, Future[EncodedPrompt]]] = {}
        self._waiting: dict[int, Sample] = {}
        self._sizes: dict[int, int] = {}
        self._largest = 0

    def expect(self, samples: Sequence[Sample]) -> None:
        """Encode these, in order, unless it is under way; forget all others."""
        if not self.num_threads:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.num_threads, "vlrl-prompts")
        wanted = {id(sample.prompt): sample for sample in samples[:MAX_AHEAD]}
        with self._lock:
            self._waiting = {}
            for key in [key for key in self._coming if key not in wanted]:
                self._coming.pop(key)[1].cancel()
                self._sizes.pop(key, None)
            self._waiting = {k: s for k, s in wanted.items() if k not in self._coming}
            self._submit()

    def _submit(self, done: Future[EncodedPrompt] | None = None) -> None:
        """Hand as many to the threads as there is room for; also called when one is done."""
        with self._lock:
            while self._waiting and self._has_room() and self._pool is not None:
                key, sample = next(iter(self._waiting.items()))
                del self._waiting[key]
                future = self._pool.submit(self._encode, key, sample)
                self._coming[key] = (sample, future)
                future.add_done_callback(self._submit)

    def _has_room(self) -> bool:
        under_way = sum(not future.done() for _, future in self._coming.values())
        held = sum(self._sizes.values()) + (under_way + 1) * self._largest
        # One more than there are threads, so that none of them waits for the main one.
        return not self._coming or (under_way <= self.num_threads and held <= MAX_BYTES)

    def take(self, samples: Sequence[Sample]) -> list[EncodedPrompt]:
        """The prompts of samples, encoded here where they were not expected."""
        start = time.perf_counter()
        try:
            return [self._ready(sample) for sample in samples]
        finally:
            self.waited_s += time.perf_counter() - start

    def _ready(self, sample: Sample) -> EncodedPrompt:
        key = id(sample.prompt)
        with self._lock:
            known = self._coming.get(key)
            was_waiting = self._waiting.pop(key, None) is not None
        if known is not None:
            return known[1].result()
        prompt = self.encoder.encode(sample)
        if was_waiting:  # another draw may ask for it
            future: Future[EncodedPrompt] = Future()
            future.set_result(prompt)
            with self._lock:
                self._coming[key] = (sample, future)
                self._keep_size(key, prompt)
        return prompt

    def _keep_size(self, key: int, prompt: EncodedPrompt) -> None:
        size = sum(x.nbytes for x in tree_leaves(vars(prompt)) if isinstance(x, Tensor))
        with self._lock:
            self._largest = max(self._largest, size)
            if key in self._coming:
                self._sizes[key] = size

    def _encode(self, key: int, sample: Sample) -> EncodedPrompt:
        """On a thread, with its own processor: tokenizers are not made for several at once."""
        mine: Reader | None = self._own.__dict__.get("encoder")
        if mine is None:
            mine = self._own.encoder = self.encoder.copied()
        prompt = mine.encode(sample)
        self._keep_size(key, prompt)
        return prompt
