"""How near to a shape's surface a voxel or a pixel is, as a weight."""

from __future__ import annotations

import functools

import numpy as np


def boundary_weights(
    shape: np.ndarray, width: float, bulk: float, *, outside: bool = True
) -> np.ndarray:
    """Weight of every cell, float64 of the shape's size, in [bulk, 1].

    bulk + (1 - bulk) exp(-(d / width)^2 / 2), d the distance to the surface in cells: half a cell
    for the cells on both sides of it. bulk = 1 weighs all alike; so does a shape that is empty or
    full, which has no surface. outside: False = cells that are not of the shape all weigh 1.
    """
    cells = np.ascontiguousarray(shape, dtype=bool)
    return _weights(cells.tobytes(), cells.shape, width, bulk, outside)


@functools.lru_cache(maxsize=64)
def _weights(
    data: bytes, size: tuple[int, ...], width: float, bulk: float, falls_outside: bool
) -> np.ndarray:
    """One reference is compared with all answers of its group."""
    from scipy import ndimage

    shape = np.frombuffer(data, dtype=bool).reshape(size)
    if shape.all() or not shape.any():
        return np.ones(size)
    inside, outside = (ndimage.distance_transform_edt(one) for one in (shape, ~shape))
    depth = np.where(shape, inside, outside) - 0.5
    weights: np.ndarray = bulk + (1 - bulk) * np.exp(-0.5 * (depth / width) ** 2)
    if not falls_outside:
        weights[~shape] = 1.0
    weights.flags.writeable = False
    return weights


def weighted_iou(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    """Weight of the shared cells / weight of those of either; 0 if both are empty."""
    union = float(weights[a | b].sum())
    return min(float(weights[a & b].sum()) / union, 1.0) if union else 0.0


def weighted_agreement(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    """Share of the weight of all cells in which both are alike."""
    return min(float(weights[a == b].sum()) / float(weights.sum()), 1.0)
