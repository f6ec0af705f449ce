"""Which prompts come next, the same for any number of ranks: an ordered walk over the data."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from vlrl.errors import DataError


class Sampler(ABC):
    """Draws indices of samples; every rank runs the same one and takes its own slice of each draw.

    One rank with P prompts and two ranks with P / 2 each see the same prompts in the same step.
    """

    def __init__(self, places: Sequence[int]) -> None:
        if not places:
            raise ValueError("a sampler needs at least one sample")
        self.places = places
        """The samples that it draws from."""
        self.position = 0
        """Draws so far; save it, set it, and the walk goes on."""
        self.left_out: set[int] = set()
        """Samples that turned out to be unreadable; the walk passes over them."""

    @property
    def num_samples(self) -> int:
        """Of one pass."""
        return len(self.places)

    def take(self, count: int) -> list[int]:
        """The next `count` indices; raises DataError where every sample is left out."""
        if self.left_out and self.left_out.issuperset(self.places):
            raise DataError(f"none of the {self.num_samples} samples can be read")
        return self._take(count)

    @abstractmethod
    def _take(self, count: int) -> list[int]:
        """The same; at least one sample is there."""

    def peek(self, count: int) -> list[int]:
        """What `take` would give now, without taking it."""
        position = self.position
        try:
            return self.take(count)
        finally:
            self.position = position

    @property
    def next_epoch(self) -> int:
        """The position of the next start of an epoch; this one where it is at a start."""
        return -(-self.position // self.num_samples) * self.num_samples

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self.position / self.num_samples


class Walk(Sampler):
    """Goes through the samples in an order that may be another in each epoch."""

    def __init__(self, places: Sequence[int], order: Callable[[int], list[int]]) -> None:
        super().__init__(places)
        self._order_of = order
        self._epoch = -1
        self._order: list[int] = []

    def _take(self, count: int) -> list[int]:
        drawn: list[int] = []
        while len(drawn) < count:
            epoch, place = divmod(self.position, self.num_samples)
            if epoch != self._epoch:
                self._order, self._epoch = self._order_of(epoch), epoch
            if self._order[place] not in self.left_out:
                drawn.append(self._order[place])
            self.position += 1
        return drawn


class PromptSampler(Walk):
    """A shuffled walk over some samples."""

    def __init__(self, places: int | Sequence[int], seed: object) -> None:
        super().__init__(range(places) if isinstance(places, int) else places, self._shuffled)
        self.seed = seed

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(self.places)
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        return order
