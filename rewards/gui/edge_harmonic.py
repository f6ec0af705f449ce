"""GUI-G1's box-size term: the harmonic mean of four edge similarities."""

from __future__ import annotations

import numpy as np

from vlrl.gui.box_rewards import box_reward


@box_reward(
    range=(0.0, 1.0),
    formula=(
        "4 / sum_i 1/a_i, a_i = max(0, 1 - |edge_p - edge_g| / L_i), L = image width for the x "
        "edges, image height for the y edges; 0 if any a_i is 0"
    ),
    units="any, both boxes in one frame; L is the image's size in that frame",
    source=(
        "GUI-G1 (arXiv 2505.15810), R_Box without its weight; its code does not clamp a_i and "
        "has a pole there: see `published`"
    ),
)
def edge_harmonic(
    predicted: np.ndarray, true: np.ndarray, *, extent: np.ndarray, published: bool = False
) -> np.ndarray:
    """Edge similarity, [N, 4] x [N, 4] -> [N] in [0, 1].

    `published` leaves a_i unclamped, except where the result is then not in [0, 1].
    """
    difference = np.abs(predicted - true)
    difference[:, :2] /= extent
    difference[:, 2:] /= extent
    similarity = 1.0 - difference
    sound = harmonic_mean(np.maximum(similarity, 0.0))
    if not published:
        return sound
    value = harmonic_mean(similarity)
    return np.where((value >= 0) & (value <= 1), value, sound)


def harmonic_mean(values: np.ndarray) -> np.ndarray:
    """Harmonic mean of the rows, [N, K] -> [N]; 0 where a value is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # Column by column: a sum over a short last axis is slow, and a matrix product would
        # round differently from place to place in the batch.
        inverse = 1.0 / values
        total = inverse[:, 0].copy()
        for column in range(1, values.shape[1]):
            total += inverse[:, column]
        return values.shape[1] / total
