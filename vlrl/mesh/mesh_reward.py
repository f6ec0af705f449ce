"""What rewards of voxel objects share."""

from __future__ import annotations

import numpy as np

from vlrl.mesh.voxelise import Voxels
from vlrl.types import Rollout

OBJECT = ("shape",)
"""What such a reward needs from a task."""


def grid_of(rollout: Rollout) -> np.ndarray | None:
    """The answer's voxels, bool [R, R, R]; None if there are none."""
    if rollout.parsed is None or not rollout.parsed.occupancy.any():
        return None
    return rollout.parsed.occupancy


def reference_of(rollout: Rollout) -> Voxels | None:
    """The reference's voxels (occupancy and colours); None if the sample has no reference."""
    return rollout.sample.target.shape
