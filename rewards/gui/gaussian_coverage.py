"""GUI-G2's Gaussian coverage reward: how well the predicted box covers the true one."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from vlrl.geometry.boxes import centres
from vlrl.gui.box_rewards import box_reward

RELEASED_EPS = 1e-8


@box_reward(
    range=(0.0, 1.0),
    formula=(
        "exp sum_d [-(c_p - c_g)^2 / (8 v_d) + 1/2 ln(s_p s_g / v_d)], s = alpha * size, "
        "v = (s_p^2 + s_g^2) / 2: the Bhattacharyya coefficient of two Gaussians"
    ),
    units="any, both boxes in one frame",
    source=(
        "GUI-G2 (arXiv 2507.15846), R_coverage; its code has an absolute epsilon that "
        "holds in pixels only, and rounds: see `published`"
    ),
)
def gaussian_coverage(
    predicted: np.ndarray,
    true: np.ndarray,
    *,
    extent: np.ndarray,
    alpha: Annotated[float, Field(gt=0)] = 0.5,
    published: bool = False,
) -> np.ndarray:
    """Overlap of two Gaussians, [N, 4] x [N, 4] -> [N] in [0, 1]; 1 iff the boxes are equal.

    Symmetric in the two boxes; free of units and scale. `published` gives the released value
    (inverted boxes as if ordered, epsilon, 3 decimals), except where that is not in [0, 1].
    """
    sound = _coverage(predicted, true, alpha)
    if not published:
        return sound
    value = released_coverage(predicted, true, alpha)
    return np.where((value >= 0) & (value <= 1), value, sound)


def _coverage(predicted: np.ndarray, true: np.ndarray, alpha: float) -> np.ndarray:
    size_p = np.abs(predicted[:, 2:] - predicted[:, :2])
    size_g = np.abs(true[:, 2:] - true[:, :2])
    larger = np.maximum(size_p, size_g)
    # With t = smaller / larger: s_p s_g / v = 2t / (1 + t^2) and v = (alpha larger)^2 (1 + t^2)/2.
    # Only ratios are squared, so nothing under- or overflows, and no logarithm is needed.
    ratio = np.minimum(size_p, size_g) / larger
    spread = 1.0 + np.square(ratio)
    shift = (centres(predicted) - centres(true)) / larger
    distance = np.square(shift) / spread
    match = 2.0 * ratio / spread
    exponent = (distance[:, 0] + distance[:, 1]) / (-4.0 * alpha**2)
    return np.exp(exponent) * np.sqrt(match[:, 0] * match[:, 1])


def released_coverage(predicted: np.ndarray, true: np.ndarray, alpha: float) -> np.ndarray:
    """GUI-G2's released value, [N, 4] x [N, 4] -> [N]; may be inf, nan or above 1."""
    var_p = np.square(alpha * (predicted[:, 2:] - predicted[:, :2]))
    var_g = np.square(alpha * (true[:, 2:] - true[:, :2]))
    var = (var_p + var_g) / 2.0
    shift = np.square(centres(predicted) - centres(true))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        first = (shift / (var + RELEASED_EPS)).sum(axis=1) / 8.0
        root = np.sqrt(var_p.prod(axis=1) * var_g.prod(axis=1) + RELEASED_EPS)
        second = 0.5 * np.log(var.prod(axis=1) / root)
        return np.round(np.exp(-(first + second)), 3)
