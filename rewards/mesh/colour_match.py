"""Whether the object has the colours that the caption names."""

from __future__ import annotations

import math

import numpy as np

from vlrl.mesh.colour_names import COLOURS, nearest_colour
from vlrl.mesh.mesh_reward import OBJECT, grid_of
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="sum over the n named colours of min(share of the surface in it, 1 / n)",
    units="shares of the vertices, each given to the nearest of eleven colour words in CIELAB",
    needs=(*OBJECT, "caption"),
)
def colour_match(rollout: Rollout) -> float | None:
    """0 for an empty object; does not apply where the caption names no colour."""
    wanted = rollout.sample.target.colours
    if not wanted:
        return None
    if grid_of(rollout) is None:
        return 0.0
    colours = rollout.parsed.mesh.colours
    if not len(colours):
        return 0.0
    shades, back = np.unique(colours, axis=0, return_inverse=True)
    words = nearest_colour(shades)[back.ravel()]
    share = np.bincount(words, minlength=len(COLOURS)) / len(words)
    names = list(COLOURS)
    found = math.fsum(min(float(share[names.index(w)]), 1 / len(wanted)) for w in wanted)
    return min(found, 1.0)
