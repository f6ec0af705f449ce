"""Distances between the surfaces of two voxel grids, through their occupied voxels' centres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distances:
    """Every point's distance to the nearest point of the other set, in voxels."""

    to_reference: np.ndarray
    """[N]; empty if there is no object."""
    to_object: np.ndarray
    """[M]; empty if there is no reference, infinite if there is no object."""
    side: int

    @property
    def chamfer(self) -> float:
        """(mean to the reference + mean to the object) / 2, in cube sides; 1 for no object.

        Not squared, and at most 1.
        """
        if not len(self.to_reference) or not len(self.to_object):
            return 1.0
        mean = (self.to_reference.mean() + self.to_object.mean()) / 2
        return min(float(mean) / self.side, 1.0)

    def f_score(self, threshold: float) -> float:
        """Harmonic mean of precision and recall at a distance in voxels; 0 for no object.

        Source: Tatarchenko et al., arXiv 1905.03678 (there on sampled points).
        """
        if not len(self.to_reference) or not len(self.to_object):
            return 0.0
        precision = float((self.to_reference <= threshold).mean())
        recall = float((self.to_object <= threshold).mean())
        total = precision + recall
        return 2 * precision * recall / total if total else 0.0


def surface_distances(grid: np.ndarray, reference: np.ndarray) -> Distances:
    """Nearest-voxel distances in both directions, by exact Euclidean distance transforms."""
    from scipy.ndimage import distance_transform_edt

    side = grid.shape[0]
    if not grid.any() or not reference.any():
        nothing = np.zeros(0)
        return Distances(nothing, np.full(int(reference.sum()), np.inf), side)
    return Distances(
        distance_transform_edt(~reference)[grid], distance_transform_edt(~grid)[reference], side
    )
