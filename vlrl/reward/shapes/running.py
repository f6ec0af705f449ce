"""Statistics of all rewards so far, in the form in which they can be added to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Statistics:
    """Number, mean, sum of squared deviations and extremes; float64."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of (value - mean)^2."""
    low: float = math.inf
    high: float = -math.inf

    @property
    def std(self) -> float:
        """Of the population, as in PAR's release; 0 without values."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def with_values(self, values: Sequence[float]) -> Statistics:
        """The statistics with further values (Chan et al. 1983).

        Sums are exact, so the order of the values, and the rank that had them, changes no bit.
        """
        if not values:
            return self
        num = len(values)
        mean = math.fsum(values) / num
        squares = math.fsum((value - mean) ** 2 for value in values)
        count = self.count + num
        gap = mean - self.mean
        return Statistics(
            count,
            self.mean + gap * (num / count),
            self.squares + squares + gap * gap * (self.count * num / count),
            min(self.low, *values),
            max(self.high, *values),
        )

    def saved(self) -> dict[str, float]:
        """As plain numbers."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, float]) -> Statistics:
        """From what `saved` gave."""
        return cls(
            int(state["count"]), state["mean"], state["squares"], state["low"], state["high"]
        )


NOTHING = Statistics()
