"""A triangle mesh with a colour per vertex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GREY = (170, 170, 170)
"""sRGB of anything without a colour of its own."""


@dataclass(frozen=True)
class ColouredMesh:
    """Triangles in the world axes of vlrl.mesh, counter-clockwise seen from outside."""

    vertices: np.ndarray
    """float64 [V, 3]"""
    faces: np.ndarray
    """int64 [F, 3]"""
    colours: np.ndarray
    """uint8 [V, 3], sRGB."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no faces."""
        return len(self.faces) == 0

    @property
    def volume(self) -> float:
        """Signed volume: positive if the faces of a closed surface point outwards."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    def painted(self, colours: np.ndarray) -> ColouredMesh:
        """The same surface in other colours, uint8 [V, 3] or [3]."""
        whole = np.broadcast_to(np.asarray(colours, np.uint8), self.vertices.shape)
        return ColouredMesh(self.vertices, self.faces, whole)


def empty_mesh() -> ColouredMesh:
    """A mesh without vertices or faces."""
    return ColouredMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 3), np.uint8))
