"""Evaluation of text to image: how near a set of images lies to sets of real ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vlrl.errors import DataError
from vlrl.set_distances import frechet_distance, kernel_distance


def nearness(made: np.ndarray, sets: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """FID and KID to every set, and the share of images whose nearest neighbour lies in it.

    made: features [N, D]; sets: features [M, D] by name, of one space with `made`. The shares add
    up to 1 and mean something only where the sets are of one size: DataError otherwise.
    """
    if len({len(features) for features in sets.values()}) > 1:
        sizes = {name: len(features) for name, features in sets.items()}
        raise DataError(f"nearest neighbours in sets of unequal size favour the larger: {sizes}")
    names = list(sets)
    distance = np.stack([_nearest(made, sets[name]) for name in names])
    winner = distance.argmin(0)
    return {
        name: {
            "fid": frechet_distance(made, sets[name]),
            "kid": kernel_distance(made, sets[name]),
            "nearest": float((winner == i).mean()),
        }
        for i, name in enumerate(names)
    }


def _nearest(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Squared distance of each to the nearest real one, [N]."""
    made, real = made.astype(np.float64), real.astype(np.float64)
    square = (made**2).sum(1)[:, None] + (real**2).sum(1)[None] - 2 * made @ real.T
    return np.asarray(square.min(1))
