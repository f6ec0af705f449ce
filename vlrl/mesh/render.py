"""Images of meshes: a z-buffer in numpy, identical on every machine, or OpenGL if available.

Shading: Lambert with a light at the camera, so that faces towards the camera are bright; white
background; anti-aliasing only by `supersample`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from vlrl.mesh.camera import Camera
from vlrl.mesh.mesh import ColouredMesh
from vlrl.mesh.shading import BACKGROUND, shades

MAX_PIXELS_AT_ONCE = 4_000_000
NEAR = 1e-3
ON_EDGE = 1e-9


def render(
    mesh: ColouredMesh,
    cameras: Sequence[Camera],
    size_px: int,
    *,
    supersample: int = 1,
    renderer: str = "software",
) -> np.ndarray:
    """Views of a mesh, uint8 [N, size_px, size_px, 3]; renderer: software, egl or auto.

    auto takes egl if it works; the environment variable VLRL_RENDERER overrides it.
    """
    chosen = os.environ.get("VLRL_RENDERER", renderer) if renderer == "auto" else renderer
    side = size_px * supersample
    if chosen in ("egl", "auto"):
        from vlrl.mesh.gl import render as render_egl
        from vlrl.mesh.gl import works

        if chosen == "egl" or works():
            return _shrink(render_egl(mesh, cameras, side), supersample)
    elif chosen != "software":
        raise ValueError(f"unknown renderer {chosen!r}; one of software, egl, auto")
    views = np.stack([_view(mesh, camera, side) for camera in cameras])
    return _shrink(views, supersample)


def _shrink(views: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return views
    N, side = views.shape[:2]
    small = side // factor
    blocks = views.reshape(N, small, factor, small, factor, 3).astype(np.float32)
    return np.round(blocks.mean((2, 4))).astype(np.uint8)


def _view(mesh: ColouredMesh, camera: Camera, side: int) -> np.ndarray:
    """One view, uint8 [side, side, 3]."""
    image = np.full((side, side, 3), BACKGROUND, np.uint8)
    if mesh.is_empty:
        return image
    flat, depth = camera.project(mesh.vertices)
    # Pixel (column, row) has its centre at (column + 0.5, row + 0.5), rows downwards.
    screen = np.stack([(flat[:, 0] + 1) / 2 * side, (1 - flat[:, 1]) / 2 * side], 1)
    tri = screen[mesh.faces]
    z = depth[mesh.faces]
    seen = (z > NEAR).all(1) & np.isfinite(tri).all((1, 2))
    low = np.ceil(tri.min(1) - 0.5).astype(np.int64)
    high = np.floor(tri.max(1) - 0.5).astype(np.int64)
    low, high = np.maximum(low, 0), np.minimum(high, side - 1)
    span = high - low + 1
    faces = np.flatnonzero(seen & (span > 0).all(1))
    colour = np.clip(np.round(shades(mesh, camera)), 0, 255).astype(np.uint8)
    buffer = np.full(side * side, np.inf)
    owner = np.full(side * side, -1, np.int64)
    for part in _portions(faces, span):
        pixel, distance, face = _covered(part, tri, z, low, span, side)
        # The nearest wins; at the same distance the lower face number, so that order is irrelevant.
        order = np.lexsort((face, distance, pixel))
        pixel, distance, face = pixel[order], distance[order], face[order]
        first = np.ones(len(pixel), bool)
        first[1:] = pixel[1:] != pixel[:-1]
        pixel, distance, face = pixel[first], distance[first], face[first]
        nearer = distance < buffer[pixel]
        buffer[pixel[nearer]] = distance[nearer]
        owner[pixel[nearer]] = face[nearer]
    drawn = owner >= 0
    image.reshape(-1, 3)[drawn] = colour[owner[drawn]]
    return image


def _portions(faces: np.ndarray, span: np.ndarray) -> list[np.ndarray]:
    """Faces in order, in parts whose boxes hold about MAX_PIXELS_AT_ONCE pixels."""
    area = np.cumsum(span[faces].prod(1)) // MAX_PIXELS_AT_ONCE
    cuts = np.flatnonzero(np.diff(area)) + 1
    return [part for part in np.split(faces, cuts) if len(part)]


def _covered(
    faces: np.ndarray, tri: np.ndarray, z: np.ndarray, low: np.ndarray, span: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels whose centre lies in a face, with its distance there and the face's number."""
    count = span[faces].prod(1)
    face = np.repeat(faces, count)
    inside_box = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    column = low[face, 0] + inside_box % span[face, 0]
    row = low[face, 1] + inside_box // span[face, 0]
    x, y = column + 0.5, row + 0.5
    a, b, c = tri[face, 0], tri[face, 1], tri[face, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    u = (b[:, 0] - x) * (c[:, 1] - y) - (b[:, 1] - y) * (c[:, 0] - x)
    v = (c[:, 0] - x) * (a[:, 1] - y) - (c[:, 1] - y) * (a[:, 0] - x)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = u / area, v / area
    w = 1 - u - v
    # A centre on the edge of two faces belongs to at least one of them, despite rounding; a
    # triangle seen edge on has nan here and no pixels.
    hit = (u >= -ON_EDGE) & (v >= -ON_EDGE) & (w >= -ON_EDGE)
    u, v, w, face = u[hit], v[hit], w[hit], face[hit]
    # Perspective-correct: the inverses of distances are interpolated.
    inverse = u / z[face, 0] + v / z[face, 1] + w / z[face, 2]
    return row[hit] * side + column[hit], 1 / inverse, face
