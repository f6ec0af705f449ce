"""Arc tangent of a reward, or of its difference to references: bounded, and slower than tanh."""

from __future__ import annotations

import math

from vlrl.reward.shapes.compared import Compared, MaybeComparedOptions


class Arctan(Compared):
    """Mean over references of the arc tangent of the difference, in radians."""

    Options = MaybeComparedOptions
    formula = "1/M sum_m arctan(slope (r - r_m)); arctan(slope r) without references"
    ends = (-math.pi / 2, math.pi / 2)

    def of_difference(self, x: float) -> float:
        """arctan(x)."""
        return math.atan(x)
