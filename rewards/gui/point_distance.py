"""SE-GUI's dense point reward: a hit plus a smooth fall with the distance."""

from __future__ import annotations

import numpy as np

from vlrl.geometry.boxes import centres, contains
from vlrl.gui.box_rewards import point_reward


@point_reward(
    range=(0.0, 2.0),
    formula=(
        "1[point in true box] + max(0, 1 - (d / d_max)^2), d to the true centre in units of the "
        "image's width and height, d_max that of the farthest image corner"
    ),
    units="any, point and box in one frame",
    source=(
        "SE-GUI (arXiv 2505.12370); its code cuts the second term to 0 at d > 1 and lets it go "
        "below 0 off the screen: see `published`"
    ),
)
def point_distance(
    points: np.ndarray, true: np.ndarray, *, extent: np.ndarray, published: bool = False
) -> np.ndarray:
    """Dense point reward, [N, 2] x [N, 4] -> [N] in [0, 2]; `published` keeps the cut at d > 1.

    A value below 0 (the released code, off the screen) is 0 in both forms.
    """
    centre = centres(true) / extent
    distance = np.hypot(*((points / extent - centre).T))
    # The farthest corner is on the other side along both axes.
    farthest = np.hypot(*np.maximum(centre, 1.0 - centre).T)
    near = np.maximum(1.0 - np.square(distance / farthest), 0.0)
    if published:
        near = np.where(distance > 1.0, 0.0, near)
    return contains(true, points) + near
