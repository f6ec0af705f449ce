"""A reward in deviations from the mean of all rewards so far."""

from __future__ import annotations

import math

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class RunningZscore(Shaper):
    """Differs from the release: statistics are updated after use, not before."""

    formula = "(r - mean) / std of all rewards before this step; std 0 counts as 1"
    affine = "scale"
    keeps_statistics = True

    def __init__(self, options: NodeOptions, range: Range) -> None:
        self.range = (-math.inf, math.inf)

    def shaped(self, value: float, seen: Seen) -> float:
        """(r - mean) / std."""
        return (value - seen.statistics.mean) / (seen.statistics.std or 1.0)
