"""Measurements and descriptions of a shape: proportions, colour, feet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlrl.mesh.number_words import NUMBERS
from vlrl.mesh.voxels import num_parts, slab
from vlrl.mesh.colour_names import COLOURS, nearest_colour
from vlrl.mesh.voxelise import Voxels

FEET_SHARE = 0.12
FEET_CONNECTIVITY = 26
FEET_MIN_VOXELS = 2
MAX_FEET = 6
MIN_COLOUR_SHARE = 0.35


@dataclass(frozen=True)
class Description:
    """Measured attributes of a shape."""

    extent: tuple[int, int, int]
    """Width, depth, height in eighths of the longest side, 1 to 8."""
    proportion: str
    """`tall`, `low`, `wide` or empty."""
    colour: str
    """The most common colour word, empty if none has a share of MIN_COLOUR_SHARE."""
    num_feet: int
    """Parts of the lowest slab; 0 if fewer than two or more than MAX_FEET."""

    def caption(self, name: str, with_feet: bool) -> str:
        """E.g. "a tall brown chair with four legs"."""
        words = [word for word in (self.proportion, self.colour) if word] + [name]
        article = "an" if words[0][0] in "aeiou" else "a"
        legs = f" with {NUMBERS[self.num_feet]} legs" if with_feet and self.num_feet else ""
        return f"{article} {' '.join(words)}{legs}"


def describe(shape: Voxels) -> Description:
    """Measure a shape that is not empty."""
    cells = np.argwhere(shape.occupancy)
    size = cells.max(0) - cells.min(0) + 1
    eighths = np.maximum(1, np.round(8 * size / size.max())).astype(int)
    width, depth, height = (int(v) for v in size)
    across = max(width, depth)
    proportion = ""
    if height > 1.6 * across:
        proportion = "tall"
    elif height < 0.4 * across:
        proportion = "low"
    elif width > 1.8 * depth and width > 1.2 * height:
        proportion = "wide"
    words = np.bincount(nearest_colour(shape.colours[shape.occupancy]), minlength=len(COLOURS))
    best = int(words.argmax())
    colour = list(COLOURS)[best] if words[best] >= MIN_COLOUR_SHARE * words.sum() else ""
    feet = num_parts(
        slab(shape.occupancy, "bottom", FEET_SHARE), FEET_CONNECTIVITY, FEET_MIN_VOXELS
    )
    extent = (int(eighths[0]), int(eighths[1]), int(eighths[2]))
    return Description(extent, proportion, colour, feet if 2 <= feet <= MAX_FEET else 0)
