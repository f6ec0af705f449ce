"""The parts of an answer in voxel codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VoxelStage:
    """One object of an answer in voxel codes, and the text before it."""

    words: str
    codes: tuple[int, ...]
    """Exactly as many as an object has; empty if there is no object."""
    occupancy: np.ndarray
    """The decoded voxels, bool [R, R, R]; all empty if there is no object."""
    fault: str = ""
    """What was wrong with the codes; empty if nothing was."""
