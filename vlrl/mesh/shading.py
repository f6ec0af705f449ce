"""How bright a face of a mesh is, and the background."""

from __future__ import annotations

import numpy as np

from vlrl.mesh.camera import Camera
from vlrl.mesh.mesh import ColouredMesh

BACKGROUND = 255
AMBIENT = 0.35


def shades(mesh: ColouredMesh, camera: Camera) -> np.ndarray:
    """Colour of every face as this camera sees it, float64 [F, 3] in 0..255."""
    corners = mesh.vertices[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1)
    towards = camera.position - corners.mean(1)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    cosine = np.einsum("ij,ij->i", normal, towards) / np.maximum(length, 1e-12)
    # Both sides are lit alike: an imported mesh may have faces in either orientation.
    light = AMBIENT + (1 - AMBIENT) * np.abs(cosine)
    return mesh.colours[mesh.faces].mean(1) * light[:, None]
