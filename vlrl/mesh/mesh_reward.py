"""Rewards of objects in voxels: the part that is alike for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vlrl.types import Rollout

OBJECT = ("shape",)
"""What such a reward needs of a task."""


def grid_of(rollout: Rollout) -> np.ndarray | None:
    """The answer's voxels, bool [R, R, R]; None where there are none."""
    if rollout.parsed is None or not rollout.parsed.occupancy.any():
        return None
    return rollout.parsed.occupancy


def reference_of(rollout: Rollout) -> Any:
    """The reference's voxels (occupancy and colours); None where the sample has no reference."""
    return rollout.sample.target.shape
