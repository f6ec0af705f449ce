"""Preference as reward: the chance that an answer beats references under the reward."""

from __future__ import annotations

from vlrl.reward.shapes.compared import Compared, sigmoid


class Par(Compared):
    """Mean over references of the sigmoid of the difference; 0.5 for a reference itself."""

    formula = "1/M sum_m sigmoid(slope (r - r_m))"
    ends = (0.0, 1.0)

    def of_difference(self, x: float) -> float:
        """sigmoid(x)."""
        return sigmoid(x)
