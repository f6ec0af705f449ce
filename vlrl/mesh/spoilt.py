"""Objects made of a right one that are wrong in a way that rewards may miss."""

from __future__ import annotations

import numpy as np


def spoilt(grid: np.ndarray) -> dict[str, np.ndarray]:
    """By kind, bool [R, R, R]; nothing of an empty grid.

    block: its bounding box filled, as a chair that comes out as a block. half: one half of it, cut
    across its longest side. upside_down: turned over (the second axis is up); not of one that is
    the same either way. everything: every voxel.
    """
    if not grid.any():
        return {}
    places = np.argwhere(grid)
    low, high = places.min(0), places.max(0) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    block = np.zeros_like(grid)
    block[box] = True
    half = grid.copy()
    axis = int((high - low).argmax())
    middle = int(low[axis] + high[axis]) // 2
    half[tuple(slice(middle, None) if i == axis else slice(None) for i in range(3))] = False
    found = {"block": block, "half": half, "everything": np.ones_like(grid)}
    turned = grid.copy()
    turned[box] = grid[box][:, ::-1, :]
    candidates = {**found, "upside_down": turned}
    return {kind: one for kind, one in candidates.items() if not np.array_equal(one, grid)}
