"""A reward as a share of its declared range."""

from __future__ import annotations

import math

from vlrl.errors import ConfigError
from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class Unit(Shaper):
    """(r - low) / (high - low) of the declared range, which must be finite."""

    formula = "(r - low) / (high - low), the ends of the declared range"
    source = "own"
    affine = "scale"

    def __init__(self, options: NodeOptions, range: Range) -> None:
        low, high = range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(
                f"kind unit needs a reward of finite range, not [{low:g}, {high:g}]; put it under "
                "`clip`, or use running_minmax"
            )
        self.low, self.high = low, high
        self.range = (0.0, 1.0)

    def shaped(self, value: float, seen: Seen) -> float:
        """The share, never outside [0, 1]."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
