"""Whether the answer's first point lies in the true box (GTA1's click reward)."""

from __future__ import annotations

import numpy as np

from vlrl.geometry.boxes import contains
from vlrl.gui.box_rewards import point_reward


@point_reward(
    range=(0.0, 1.0),
    formula="1 if the first point (of a box: its centre) lies in the true box, edges included",
    units="any, point and box in one frame",
    source="GTA1 (arXiv 2507.05791) click reward; the released code also cuts to whole pixels",
)
def point_hit(points: np.ndarray, true: np.ndarray, *, extent: np.ndarray) -> np.ndarray:
    """1 on a hit, [N, 2] x [N, 4] -> [N]."""
    return contains(true, points).astype(np.float64)
