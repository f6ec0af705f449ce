"""What an answer in voxel codes is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VoxelStage:
    """One object of an answer in voxel codes, and the words before it."""

    words: str
    codes: tuple[int, ...]
    """Exactly as many as an object has; empty where there was none."""
    occupancy: Any
    """What they decode to, bool array [R, R, R]; nothing in it where there was no object."""
    fault: str = ""
    """What was wrong with the codes as they came; empty where nothing was."""
