"""Measures of voxel grids: pure functions on bool [R, R, R], indexed [x, y, z], z up.

Connectivity: 6 = faces touch, 18 = edges too, 26 = corners too. Two voxels that touch along an
edge are two parts under 6, and one under 18 and 26; marching cubes joins them too.
"""

from __future__ import annotations

import numpy as np


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Shared voxels / voxels of either; 0 if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def silhouettes(grid: np.ndarray) -> list[np.ndarray]:
    """Orthographic silhouettes along x, y and z, bool [R, R] each."""
    return [np.asarray(grid.any(axis=axis)) for axis in range(3)]


def silhouette_iou(a: np.ndarray, b: np.ndarray) -> list[float]:
    """IoU of the silhouettes along x, y and z; 0 if both are empty."""
    return [iou(x, y) for x, y in zip(silhouettes(a), silhouettes(b), strict=True)]


def component_sizes(grid: np.ndarray, connectivity: int) -> list[int]:
    """Voxels of each connected part, largest first."""
    from scipy import ndimage

    rank = {6: 1, 18: 2, 26: 3}[connectivity]
    labels, count = ndimage.label(grid, ndimage.generate_binary_structure(3, rank))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return sorted(map(int, sizes), reverse=True)


def num_parts(grid: np.ndarray, connectivity: int, min_voxels: int) -> int:
    """Connected parts of at least `min_voxels` voxels."""
    return sum(size >= min_voxels for size in component_sizes(grid, connectivity))


def slab(grid: np.ndarray, where: str, share: float) -> np.ndarray:
    """The lowest (`bottom`) or highest (`top`) `share` of the object's height, or the `whole`.

    At least two layers, since a single layer of a shell is often full of holes.
    """
    levels = np.flatnonzero(grid.any(axis=(0, 1)))
    if where == "whole" or not len(levels):
        return grid
    depth = max(2, round(share * (levels[-1] - levels[0] + 1)))
    kept = np.zeros_like(grid)
    if where == "bottom":
        kept[:, :, levels[0] : levels[0] + depth] = True
    elif where == "top":
        kept[:, :, levels[-1] + 1 - depth : levels[-1] + 1] = True
    else:
        raise ValueError(f"unknown place {where!r}; one of bottom, top, whole")
    return grid & kept


def floater_share(grid: np.ndarray, connectivity: int) -> float:
    """Share of the voxels outside the largest part; 1 for an empty grid."""
    sizes = component_sizes(grid, connectivity)
    return 1 - sizes[0] / sum(sizes) if sizes else 1.0


def mirror_iou(grid: np.ndarray, axis: int) -> float:
    """IoU with its mirror image about the middle of its own extent along `axis`."""
    cells = np.flatnonzero(grid.any(axis=tuple(a for a in range(3) if a != axis)))
    if not len(cells):
        return 0.0
    own = np.take(grid, range(cells[0], cells[-1] + 1), axis=axis)
    return iou(own, np.flip(own, axis))


def centres(grid: np.ndarray) -> np.ndarray:
    """Centres of the occupied voxels in [-0.5, 0.5]^3, float64 [N, 3]."""
    return (np.argwhere(grid) + 0.5) / grid.shape[0] - 0.5


def num_exposed_faces(grid: np.ndarray) -> int:
    """Faces between an occupied voxel and an empty one, the border counting as empty."""
    padded = np.pad(grid, 1).astype(np.int8)
    return int(sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in range(3)))
