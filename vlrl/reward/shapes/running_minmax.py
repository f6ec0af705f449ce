"""A reward as a share of the span of all rewards so far."""

from __future__ import annotations

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class RunningMinmax(Shaper):
    """Differs from the release: clipped to [0, 1], 0.5 while all rewards were equal (there a
    division by 0), statistics updated after use.
    """

    formula = "clip((r - min) / (max - min), 0, 1) over all rewards before this step"
    affine = "scale"
    keeps_statistics = True

    def __init__(self, options: NodeOptions, range: Range) -> None:
        self.range = (0.0, 1.0)

    def shaped(self, value: float, seen: Seen) -> float:
        """The share of the span, at most 1 and at least 0."""
        low, high = seen.statistics.low, seen.statistics.high
        if not high > low:
            return 0.5
        return min(max((value - low) / (high - low), 0.0), 1.0)
