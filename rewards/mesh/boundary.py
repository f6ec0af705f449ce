"""Overlap with the reference in which cells count by how near its surface they are."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from vlrl.mesh.boundary import boundary_weights, weighted_agreement, weighted_iou
from vlrl.mesh.mesh_reward import OBJECT, grid_of, reference_of
from vlrl.mesh.voxels import silhouettes
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="sum of w over shared cells / sum of w over those of either, "
    "w = bulk + (1 - bulk) exp(-(d / width)^2 / 2) in the reference, d the distance to its "
    "surface, and 1 outside; agreement: sum of w over cells that are alike / sum of w, w falling "
    "on both sides",
    units="voxels, both of one resolution",
    source="BS-IRIS (arXiv 2303.10692) weighs boundaries; the weight's formula is ours",
    needs=OBJECT,
)
def boundary(
    rollout: Rollout,
    *,
    of: Literal["voxels", "silhouettes"] = "voxels",
    measure: Literal["iou", "agreement"] = "iou",
    width: PositiveFloat = 1.0,
    bulk: Annotated[float, Field(ge=0, le=1)] = 0.1,
    pool: Literal["mean", "min"] = "mean",
) -> float | None:
    """Thin parts count as much as bulk, and filled gaps in full; no reference: does not apply.

    of silhouettes: along x, y and z, pooled. agreement: up to a factor the cross-entropy of hard
    voxels, whose gain from stage to stage BS-IRIS pays (`gain`). An empty object gets 0. With
    weights that fall outside too, overlap would pay for filling wide gaps.
    """
    reference = reference_of(rollout)
    if reference is None:
        return None
    grid = grid_of(rollout)
    if grid is None:
        return 0.0
    pairs: list[tuple[np.ndarray, np.ndarray]] = [(grid, reference.occupancy)]
    if of == "silhouettes":
        pairs = list(zip(silhouettes(grid), silhouettes(reference.occupancy), strict=True))
    agrees = measure == "agreement"
    compare = weighted_agreement if agrees else weighted_iou
    values = [compare(a, b, boundary_weights(b, width, bulk, outside=agrees)) for a, b in pairs]
    return min(values) if pool == "min" else math.fsum(values) / len(values)
