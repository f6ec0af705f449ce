"""Whether the object has the parts that the caption counts, and as many."""

from __future__ import annotations

import math
from typing import Literal

from vlrl.mesh.mesh_reward import OBJECT, grid_of
from vlrl.mesh.voxels import num_parts, slab
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="mean over the caption's parts of (1[found] + max(0, 1 - |found - asked| / asked)) / 2",
    units="connected parts of the lowest or highest `share` of the height, or of the whole",
    source="AR3D-R1 (arXiv 2512.10949): existence + completeness, halved; there ShapeLLM judges it",
    needs=(*OBJECT, "caption"),
)
def part_counts(
    rollout: Rollout,
    *,
    connectivity: Literal[6, 18, 26] = 26,
    min_voxels: int = 2,
    share: float = 0.12,
) -> float | None:
    """Geometry alone: legs, feet, wheels below, horns above, pieces of the whole.

    Two voxels that touch at an edge are one part under 26 and 18 and two under 6; parts under
    `min_voxels` do not count. Does not apply where the caption counts nothing of the kind.
    """
    parts = rollout.sample.target.parts
    if not parts:
        return None
    grid = grid_of(rollout)
    if grid is None:
        return 0.0
    values = []
    for part in parts:
        found = num_parts(slab(grid, part.where, share), connectivity, min_voxels)
        complete = max(0.0, 1 - abs(found - part.count) / part.count)
        values.append(((found > 0) + complete) / 2)
    return math.fsum(values) / len(values)
