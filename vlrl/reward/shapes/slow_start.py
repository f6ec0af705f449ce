"""A sigmoid that is still flat where answers begin: slow growth first, then fast."""

from __future__ import annotations

from pydantic import Field

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.compared import Compared, ComparedOptions, sigmoid
from vlrl.reward.shapes.shaper import Range


class SlowStartOptions(ComparedOptions):
    """References, slope and how far above them the middle is."""

    delay: float = Field(3.0, ge=0, description="added to the reference, in units of the reward")


class SlowStart(Compared):
    """PAR with its middle `delay` above the references."""

    Options = SlowStartOptions
    formula = "1/M sum_m sigmoid(slope (r - delay - r_m))"
    ends = (0.0, 1.0)

    def __init__(self, options: NodeOptions, range: Range) -> None:
        assert isinstance(options, SlowStartOptions)
        super().__init__(options, range)
        self.shift = options.slope * options.delay

    def of_difference(self, x: float) -> float:
        """sigmoid(x - slope delay)."""
        return sigmoid(x - self.shift)
