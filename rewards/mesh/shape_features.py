"""Objects as how full 8 x 8 x 8 blocks of their voxels are."""

from __future__ import annotations

import numpy as np

from vlrl.mesh.mesh_reward import OBJECT, grid_of
from vlrl.reward.novelty.features import Features
from vlrl.types import Rollout

SIDE = 8


def full_blocks(rollout: Rollout) -> np.ndarray | None:
    """Share of full voxels in each block; None without an object."""
    grid = grid_of(rollout)
    if grid is None:
        return None
    place = np.arange(grid.shape[0]) * SIDE // grid.shape[0]
    sums = np.zeros((SIDE, SIDE, SIDE))
    np.add.at(sums, np.ix_(place, place, place), grid)
    return sums.ravel()


shape_features = Features(full_blocks, SIDE**3, frozenset(OBJECT))
