"""Evaluation of text to 3D: distances between sets of views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from vlrl.errors import DataError
from vlrl.mesh.mesh import ColouredMesh
from vlrl.mesh.surface import surface_of
from vlrl.set_distances import frechet_distance, kernel_distance
from vlrl.types import Rollout

Embed = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Images, uint8 [H, W, 3] each, to features [N, D]."""


class ViewTask(Protocol):
    """The task, as far as views are drawn by it."""

    def views_of(self, mesh: ColouredMesh) -> np.ndarray:
        """The views of a mesh, uint8 [N, H, W, 3]."""


def set_distances(task: ViewTask, rollouts: Sequence[Rollout], embed: Embed) -> dict[str, float]:
    """FID and KID of all answers' views against all references' views, rendered alike.

    Answers that could not be read, or are empty, count as white images. DataError where fewer
    than two samples have a reference.
    """
    made: list[np.ndarray] = []
    wanted: list[np.ndarray] = []
    for rollout in rollouts:
        shape = rollout.sample.target.shape
        if shape is None:
            continue
        views = task.views_of(surface_of(shape))
        wanted += list(views)
        made += list(np.full_like(views, 255) if rollout.parsed is None else rollout.parsed.views)
    if len(wanted) < 2:
        raise DataError("FID and KID need two samples with a reference, or more")
    a, b = embed(made), embed(wanted)
    return {
        "fid": frechet_distance(a, b),
        "kid": kernel_distance(a, b),
        "num_views": float(len(wanted)),
        "num_dims": float(a.shape[1]),
    }
