"""Images made of a right one that do not show what it shows."""

from __future__ import annotations

import numpy as np

NUM_TILES = 8
"""Along each side of an image whose tiles are shuffled."""


def nothing_like(image: np.ndarray) -> dict[str, np.ndarray]:
    """By kind, uint8 [H, W, 3] of the same size; the same ones every time.

    flat: its mean colour. noise: its pixels in any order. shuffled: its tiles in any order, with
    all colours, textures and edges of the right image; not of images of less than 8 pixels a side.
    """
    rng = np.random.default_rng(0)
    height, width = image.shape[:2]
    flat = np.broadcast_to(image.reshape(-1, 3).mean(0).round().astype(np.uint8), image.shape)
    noise = rng.permutation(image.reshape(-1, 3)).reshape(image.shape)
    found = {"flat": flat.copy(), "noise": noise}
    h, w = height // NUM_TILES, width // NUM_TILES
    if h and w:
        tiles = image[: h * NUM_TILES, : w * NUM_TILES]
        tiles = tiles.reshape(NUM_TILES, h, NUM_TILES, w, 3).transpose(0, 2, 1, 3, 4)
        tiles = rng.permutation(tiles.reshape(-1, h, w, 3)).reshape(NUM_TILES, NUM_TILES, h, w, 3)
        shuffled = image.copy()
        shuffled[: h * NUM_TILES, : w * NUM_TILES] = tiles.transpose(0, 2, 1, 3, 4).reshape(
            h * NUM_TILES, w * NUM_TILES, 3
        )
        found["shuffled"] = shuffled
    return found
