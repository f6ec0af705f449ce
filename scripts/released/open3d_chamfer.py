"""Nearest-point distances between voxels' centres, by Open3D (a package, no repository)."""

from __future__ import annotations

import random

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source

SIDE = 8


def grids(rng: random.Random) -> list[Json]:
    """[voxels of one grid, of the other], each voxel as one number in a cube of 8."""
    return [
        [sorted(rng.sample(range(SIDE**3), rng.choice((1, 2, 5, 12)))) for _ in range(2)]
        for _ in range(200)
    ]


def distances(source: Source) -> Answer:
    """`compute_point_cloud_distance` both ways -> [mean, mean back, share within 1.5, back]."""
    import open3d

    def cloud(voxels: list[int]) -> open3d.geometry.PointCloud:
        points = np.stack(np.unravel_index(voxels, (SIDE,) * 3), 1).astype(float)
        return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))

    def answer(row: Json) -> Json:
        one, other = (cloud(voxels) for voxels in row)
        there = np.asarray(one.compute_point_cloud_distance(other))
        back = np.asarray(other.compute_point_cloud_distance(one))
        found = [there.mean(), back.mean(), (there <= 1.5).mean(), (back <= 1.5).mean()]
        return [float(f"{value:.9g}") for value in found]

    return answer


COMPARISONS = [
    Comparison(
        "open3d_chamfer", "open3d", "0.20.0", "compute_point_cloud_distance", grids, distances
    )
]
