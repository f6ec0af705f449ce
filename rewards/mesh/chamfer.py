"""Chamfer distance to the reference, as a reward."""

from __future__ import annotations

import math

from vlrl.mesh.mesh_reward import OBJECT, grid_of, reference_of
from vlrl.mesh.point_sets import surface_distances
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="exp(-d / scale), d = mean of the two one-way mean distances; 0 for an empty object",
    units="d and scale in sides of the cube, 1 = the object's longest side",
    needs=OBJECT,
)
def chamfer(rollout: Rollout, *, scale: float = 0.05) -> float | None:
    """Between the voxels' centres, not squared; does not apply without a reference."""
    reference = reference_of(rollout)
    if reference is None:
        return None
    if scale <= 0:
        raise ValueError(f"scale must be above 0, not {scale}")
    grid = grid_of(rollout)
    if grid is None:
        return 0.0
    return math.exp(-surface_distances(grid, reference.occupancy).chamfer / scale)
