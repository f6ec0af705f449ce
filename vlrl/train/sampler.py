"""Which prompts come next: a shuffled walk over the data, the same for any number of ranks."""

from __future__ import annotations

import random

from vlrl.errors import DataError


class PromptSampler:
    """Draws sample indices epoch by epoch; its whole state is one number.

    Every rank runs the same sampler and takes its own slice of each draw, so that one rank with
    P prompts and two ranks with P / 2 each see the same prompts in the same step.
    """

    def __init__(self, num_samples: int, seed: int) -> None:
        if num_samples < 1:
            raise ValueError("a sampler needs at least one sample")
        self.num_samples = num_samples
        self.seed = seed
        self.position = 0
        """Draws so far; save it, set it, and the walk goes on."""
        self.left_out: set[int] = set()
        """Samples that turned out to be unreadable; the walk passes over them."""
        self._epoch = -1
        self._order: list[int] = []

    def take(self, count: int) -> list[int]:
        """The next `count` indices; raises DataError where every sample is left out."""
        if len(self.left_out) >= self.num_samples:
            raise DataError(f"none of the {self.num_samples} samples can be read")
        drawn: list[int] = []
        while len(drawn) < count:
            epoch, place = divmod(self.position, self.num_samples)
            if epoch != self._epoch:
                self._order = list(range(self.num_samples))
                random.Random(f"{self.seed}/{epoch}").shuffle(self._order)
                self._epoch = epoch
            if self._order[place] not in self.left_out:
                drawn.append(self._order[place])
            self.position += 1
        return drawn

    def peek(self, count: int) -> list[int]:
        """What `take` would give, without taking it."""
        position = self.position
        try:
            return self.take(count)
        finally:
            self.position = position

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self.position / self.num_samples
