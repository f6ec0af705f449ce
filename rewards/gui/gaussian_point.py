"""GUI-G2's Gaussian point reward: how near the predicted centre is to the true one."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from vlrl.geometry.boxes import centres
from vlrl.gui.box_rewards import box_reward


@box_reward(
    range=(0.0, 1.0),
    formula="exp(-1/2 sum_d (c_p - c_g)^2 / (alpha * size_g)^2), d over x and y",
    units="any, both boxes in one frame",
    source="GUI-G2 (arXiv 2507.15846), R_point; its code rounds to 3 decimals: see `published`",
)
def gaussian_point(
    predicted: np.ndarray,
    true: np.ndarray,
    *,
    extent: np.ndarray,
    alpha: Annotated[float, Field(gt=0)] = 0.5,
    published: bool = False,
) -> np.ndarray:
    """Unnormalised density of the predicted centre, [N, 4] x [N, 4] -> [N] in [0, 1].

    `alpha` is sigma over the true box's size. Not a hit indicator: at 0.5 a centre on the
    middle of an edge scores 0.607. `published` rounds, and lets inverted and empty boxes score.
    """
    sigma = alpha * (true[:, 2:] - true[:, :2])
    distance = (centres(predicted) - centres(true)) / sigma
    square = np.square(distance)
    value = np.exp(-0.5 * (square[:, 0] + square[:, 1]))
    return np.round(value, 3) if published else value
