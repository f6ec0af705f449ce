"""Whether the middle of the predicted box lies in the true box (GUI-G1's R_hit)."""

from __future__ import annotations

import numpy as np

from vlrl.geometry.boxes import centres, contains
from vlrl.gui.box_rewards import box_reward


@box_reward(
    range=(0.0, 1.0),
    formula="1 if the centre of the box lies in the true box, all four edges included, else 0",
    units="any, both boxes in one frame",
    source="GUI-G1 (arXiv 2505.15810), R_Hit; inverted and empty boxes score 0 here",
)
def box_hit(
    predicted: np.ndarray, true: np.ndarray, *, extent: np.ndarray, published: bool = False
) -> np.ndarray:
    """1 on a hit, [N, 4] x [N, 4] -> [N]; `published` lets inverted and empty boxes hit."""
    return contains(true, centres(predicted)).astype(np.float64)
