"""Hyperbolic tangent of a reward, or of its difference to references."""

from __future__ import annotations

import math

from vlrl.reward.shapes.compared import Compared, MaybeComparedOptions


class Tanh(Compared):
    """Mean over references of tanh of the difference."""

    Options = MaybeComparedOptions
    formula = "1/M sum_m tanh(slope (r - r_m)); tanh(slope r) without references"
    ends = (-1.0, 1.0)

    def of_difference(self, x: float) -> float:
        """tanh(x)."""
        return math.tanh(x)
