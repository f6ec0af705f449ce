"""A penalty for pieces that float apart from the object."""

from __future__ import annotations

from typing import Literal

from vlrl.mesh.mesh_reward import OBJECT, grid_of
from vlrl.mesh.voxels import floater_share
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(-1.0, 0.0),
    formula="-(share of the voxels outside the largest connected part); -1 for an empty object",
    units="voxels",
    needs=OBJECT,
)
def no_floaters(rollout: Rollout, *, connectivity: Literal[6, 18, 26] = 26) -> float:
    """0 where everything is connected."""
    grid = grid_of(rollout)
    return -1.0 if grid is None else -floater_share(grid, connectivity)
