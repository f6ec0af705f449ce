"""The one box check as a reward or as the condition of a gate."""

from __future__ import annotations

import numpy as np

from vlrl.gui.box_rewards import box_reward


@box_reward(
    range=(0.0, 1.0),
    formula="1 if the box is finite, ordered, not empty and at least partly on the image, else 0",
    units="none",
    source="own; the released GUI-G1 and GUI-G2 code has no such check",
)
def box_valid(predicted: np.ndarray, true: np.ndarray, *, extent: np.ndarray) -> np.ndarray:
    """1 for a usable box, [N, 4] -> [N]; the check itself is `Box.is_valid`."""
    return np.ones(len(predicted))
