"""How alike the object's left and right halves are."""

from __future__ import annotations

from typing import Literal

from vlrl.mesh.mesh_reward import OBJECT, grid_of
from vlrl.mesh.voxels import mirror_iou
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="IoU of the object and its mirror image about its own middle; 0 for an empty object",
    units="voxels",
    needs=OBJECT,
)
def symmetry(rollout: Rollout, *, axis: Literal["x", "y", "z"] = "x") -> float:
    """Most made things are alike left and right (x); a solid block is perfectly so, too."""
    grid = grid_of(rollout)
    return 0.0 if grid is None else mirror_iou(grid, "xyz".index(axis))
