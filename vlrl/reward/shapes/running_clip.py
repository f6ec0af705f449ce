"""A reward clipped to some deviations around the mean of all rewards so far."""

from __future__ import annotations

from pydantic import Field

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class RunningClipOptions(NodeOptions):
    """How far from the mean a reward may be."""

    width: float = Field(1.0, gt=0, description="in deviations")


class RunningClip(Shaper):
    """Differs from the release: statistics are updated after use, not before."""

    Options = RunningClipOptions
    formula = "clip(r, mean - width std, mean + width std) of all rewards before this step"
    saturates = True
    keeps_statistics = True

    def __init__(self, options: NodeOptions, range: Range) -> None:
        assert isinstance(options, RunningClipOptions)
        self.width = options.width
        self.range = range

    def shaped(self, value: float, seen: Seen) -> float:
        """The clipped value."""
        reach = self.width * seen.statistics.std
        return min(max(value, seen.statistics.mean - reach), seen.statistics.mean + reach)
