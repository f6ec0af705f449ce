"""Overlap of what is seen along the three axes with what is seen of the reference."""

from __future__ import annotations

import math
from typing import Literal

from vlrl.mesh.mesh_reward import OBJECT, grid_of, reference_of
from vlrl.mesh.voxels import silhouette_iou as along_axes
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="pool over the axes x, y, z of IoU(silhouette, reference's); 0 for an empty object",
    units="voxels, both of one resolution",
    needs=OBJECT,
)
def silhouette_iou(rollout: Rollout, *, pool: Literal["mean", "min"] = "mean") -> float | None:
    """Orthographic silhouettes, so no renderer is needed; does not apply without a reference."""
    reference = reference_of(rollout)
    if reference is None:
        return None
    grid = grid_of(rollout)
    if grid is None:
        return 0.0
    values = along_axes(grid, reference.occupancy)
    return min(values) if pool == "min" else math.fsum(values) / 3
