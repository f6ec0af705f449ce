"""A run that ends by the clock: the learning rate follows the share of time that is left."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Counts from its creation."""

    minutes: float
    warmup: float = 0.03
    """Share of the time in which the learning rate rises."""
    floor: float = 0.02
    start: float = field(default_factory=time.time)

    @property
    def share(self) -> float:
        """Time gone, 0 to 1."""
        return min((time.time() - self.start) / (60 * self.minutes), 1.0)

    @property
    def running(self) -> bool:
        """Whether there is time for another step."""
        return self.share < 1

    @property
    def factor(self) -> float:
        """Of the learning rate: up, then down along a cosine."""
        if self.share < self.warmup:
            return max(self.share / self.warmup, 1e-3)
        gone = (self.share - self.warmup) / (1 - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * gone))
