"""F-score of the object's surface against the reference's."""

from __future__ import annotations

from vlrl.mesh.mesh_reward import OBJECT, grid_of, reference_of
from vlrl.mesh.point_sets import surface_distances
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="2 P R / (P + R), P, R = shares of voxels within `threshold` of the other's",
    units="threshold in voxels; 1.5 = a neighbour, corners included",
    source="Tatarchenko et al. (arXiv 1905.03678), there on sampled points",
    needs=OBJECT,
)
def surface_f_score(rollout: Rollout, *, threshold: float = 1.5) -> float | None:
    """0 for an empty object; does not apply without a reference."""
    reference = reference_of(rollout)
    if reference is None:
        return None
    grid = grid_of(rollout)
    if grid is None:
        return 0.0
    return surface_distances(grid, reference.occupancy).f_score(threshold)
