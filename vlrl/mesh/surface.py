"""Voxels to a closed surface by marching cubes, with faces outwards."""

from __future__ import annotations

import numpy as np

from vlrl.mesh.mesh import GREY, ColouredMesh, empty_mesh
from vlrl.mesh.voxelise import Voxels, voxel_index


def surface(occupancy: np.ndarray, colours: np.ndarray | None = None) -> ColouredMesh:
    """The surface of bool [R, R, R]; an empty grid gives an empty mesh, never an error.

    The grid is padded by one empty layer: otherwise an object that touches the border has holes
    there, and a full grid has no surface at all. Faces point outwards
    (`gradient_direction="ascent"`: skimage's default turns them inwards on such grids). There is
    one vertex for every face between an occupied voxel and an empty one, and a few more inside
    ambiguous cubes (Lewiner's tables), where parts touch at edges or corners.
    colours: uint8 [R, R, R, 3]; a vertex takes that of the nearest occupied voxel.
    """
    from skimage.measure import marching_cubes

    if not occupancy.any():
        return empty_mesh()
    side = occupancy.shape[0]
    padded = np.pad(occupancy, 1).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(padded, 0.5, gradient_direction="ascent")
    # skimage places voxel i at i; here its centre is (i + 0.5) / R - 0.5, minus the padding.
    points = (vertices.astype(np.float64) - 1 + 0.5) / side - 0.5
    shade = np.empty((len(points), 3), np.uint8)
    shade[:] = GREY if colours is None else colours[tuple(_nearest(points, occupancy).T)]
    return ColouredMesh(points, faces.astype(np.int64), shade)


def surface_of(shape: Voxels) -> ColouredMesh:
    """The surface of a coloured shape."""
    return surface(shape.occupancy, shape.colours)


def _nearest(points: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """The occupied voxel whose boundary each vertex lies on, int64 [N, 3].

    A vertex lies half-way between an occupied voxel and an empty one along one axis.
    """
    side = occupancy.shape[0]
    step = 0.25 / side
    best = voxel_index(points, side)
    for axis in range(3):
        for sign in (-1, 1):
            moved = points.copy()
            moved[:, axis] += sign * step
            inside = (np.abs(moved) < 0.5).all(1)
            cells = voxel_index(moved, side)
            taken = inside & occupancy[tuple(cells.T)] & ~occupancy[tuple(best.T)]
            best[taken] = cells[taken]
    return best
