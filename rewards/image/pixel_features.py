"""Images as their pixels at 8 x 8."""

from __future__ import annotations

import itertools

import numpy as np

from vlrl.reward.novelty.features import Features
from vlrl.types import Rollout

SIDE = 8


def small_pixels(rollout: Rollout) -> np.ndarray | None:
    """Mean colour of 8 x 8 tiles, less mid grey; None without an image."""
    if rollout.parsed is None or rollout.parsed.image is None:
        return None
    image = np.asarray(rollout.parsed.image, dtype=np.float64)
    rows, columns = (
        np.linspace(0, size, SIDE + 1).astype(int) for size in image.shape[:2]
    )  # fmt: skip
    tiles = [
        [
            image[a : max(b, a + 1), c : max(d, c + 1)].reshape(-1, 3).mean(0)
            for c, d in itertools.pairwise(columns)
        ]
        for a, b in itertools.pairwise(rows)
    ]
    return np.array(tiles).ravel() / 255 - 0.5


pixel_features = Features(small_pixels, SIDE * SIDE * 3, frozenset({"image"}))
