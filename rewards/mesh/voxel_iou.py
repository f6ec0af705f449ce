"""Overlap of the object's voxels with the reference's."""

from __future__ import annotations

from vlrl.mesh.mesh_reward import OBJECT, grid_of, reference_of
from vlrl.mesh.voxels import iou
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="|object and reference| / |object or reference| in voxels; 0 for an empty object",
    units="voxels, both of one resolution",
    needs=OBJECT,
)
def voxel_iou(rollout: Rollout) -> float | None:
    """Occupancy IoU; does not apply without a reference. Shells overlap little: see silhouettes."""
    reference = reference_of(rollout)
    if reference is None:
        return None
    grid = grid_of(rollout)
    return 0.0 if grid is None else iou(grid, reference.occupancy)
