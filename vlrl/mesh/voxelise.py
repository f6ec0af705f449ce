"""Meshes to voxel grids: the shell that the surface passes through, without the inside.

One normalisation: the bounding box is centred and its longest side fills the cube. (The released
code of ShapeLLM-Omni takes one minimum and maximum over all axes instead, so that an object is off
centre; TRELLIS normalises as here.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlrl.errors import DataError, first_line
from vlrl.mesh.mesh import GREY

if TYPE_CHECKING:
    from PIL.Image import Image
    from trimesh import Trimesh
    from trimesh.visual.material import Material
    from trimesh.visual.texture import TextureVisuals


@dataclass(frozen=True)
class Voxels:
    """A shell with a colour per voxel."""

    occupancy: np.ndarray
    """bool [R, R, R], indexed [x, y, z]."""
    colours: np.ndarray
    """uint8 [R, R, R, 3], sRGB; arbitrary for empty voxels."""


def normalised(vertices: np.ndarray) -> np.ndarray:
    """Bounding box centred at 0, longest side 1; float64 [V, 3]. Raises DataError on a point."""
    vertices = np.asarray(vertices, np.float64)
    if not len(vertices) or not np.isfinite(vertices).all():
        raise DataError("the mesh has no vertices, or some that are not finite")
    low, high = vertices.min(0), vertices.max(0)
    longest = (high - low).max()
    if longest <= 0:
        raise DataError("the mesh is a single point")
    return (vertices - (low + high) / 2) / longest


def z_up(vertices: np.ndarray) -> np.ndarray:
    """From y-up with the front along +z (glTF, most OBJ files) to vlrl.mesh's axes: (x, -z, y)."""
    return np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], 1)


def y_up(vertices: np.ndarray) -> np.ndarray:
    """The inverse, for glTF: (x, z, -y)."""
    return np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], 1)


def voxel_index(points: np.ndarray, resolution: int) -> np.ndarray:
    """The voxels that points of the cube lie in, int64 [N, 3]; its far faces count as inside."""
    return np.clip(np.floor((points + 0.5) * resolution), 0, resolution - 1).astype(np.int64)


def voxelise(
    vertices: np.ndarray,
    faces: np.ndarray,
    resolution: int,
    face_colours: np.ndarray | None = None,
) -> Voxels:
    """The surface's shell after `normalised`; face_colours: uint8 [F, 3]. Raises DataError.

    trimesh subdivides triangles until no edge is longer than half a voxel; every voxel that
    contains a corner is occupied, with the mean colour of its corners.
    """
    from trimesh.remesh import subdivide_to_size

    if not len(faces):
        raise DataError("the mesh has no faces")
    points, pieces, origin = subdivide_to_size(
        normalised(vertices), faces, 0.5 / resolution, max_iter=20, return_index=True
    )
    cells = voxel_index(points, resolution)
    flat = np.ravel_multi_index(tuple(cells.T), (resolution,) * 3)
    occupancy = np.zeros(resolution**3, bool)
    occupancy[flat[np.unique(pieces)]] = True
    colours = np.empty((resolution**3, 3), np.uint8)
    colours[:] = GREY
    if face_colours is not None:
        where = flat[pieces.ravel()]
        shade = np.repeat(face_colours[origin], 3, axis=0).astype(np.float64)
        count = np.bincount(where, minlength=resolution**3)
        total = [np.bincount(where, shade[:, c], resolution**3) for c in range(3)]
        taken = count > 0
        colours[taken] = np.round(np.stack(total, 1)[taken] / count[taken, None])
    shape = (resolution,) * 3
    return Voxels(occupancy.reshape(shape), colours.reshape(*shape, 3))


def load_mesh(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 3], faces [F, 3] and face colours uint8 [F, 3] of a mesh file, in its axes.

    Any format that trimesh reads; textures and materials become one colour per face. Raises
    DataError.
    """
    import trimesh

    try:
        scene = trimesh.load_scene(path)
        parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
        parts = [part for part in parts if len(part.faces)]
        if not parts:
            raise DataError(f"{path}: holds no faces")
        return _joined(parts)
    except DataError:
        raise
    except Exception as error:  # trimesh's readers raise nearly every kind on a broken file
        why = first_line(error)[:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read as a mesh: {why}; replace it") from error


def _joined(parts: Sequence[Trimesh]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vertices, faces, colours, offset = [], [], [], 0
    for part in parts:
        corners = np.asarray(part.vertices, np.float64)
        places = np.asarray(part.faces, np.int64)
        if corners.ndim != 2 or corners.shape[1] != 3:
            raise ValueError(f"its corners have {corners.shape[1:]} coordinates, not 3")
        if places.min() < 0 or places.max() >= len(corners):
            raise ValueError(f"its faces name corners beyond its {len(corners)}")
        vertices.append(corners)
        faces.append(places + offset)
        colours.append(_face_colours(part))
        offset += len(part.vertices)
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(colours)


def _face_colours(part: Trimesh) -> np.ndarray:
    """uint8 [F, 3]: the texture at a face's middle, else the material's or vertices' colour."""
    from trimesh.visual.color import ColorVisuals
    from trimesh.visual.texture import TextureVisuals

    visual = part.visual
    if isinstance(visual, TextureVisuals) and visual.material is not None:
        return _textured(part, visual)
    if isinstance(visual, ColorVisuals) and visual.kind in ("face", "vertex"):
        return np.asarray(visual.face_colors)[:, :3].astype(np.uint8)
    return np.tile(np.array(GREY, np.uint8), (len(part.faces), 1))


def _textured(part: Trimesh, visual: TextureVisuals) -> np.ndarray:
    image, uv = _texture(visual.material), visual.uv
    if image is None or uv is None or len(uv) != len(part.vertices):
        main = np.asarray(visual.material.main_color, np.uint8)[:3]
        return np.tile(main, (len(part.faces), 1))
    texture = np.asarray(image.convert("RGB"))
    middle = np.nan_to_num(np.asarray(uv)[part.faces].mean(1)) % 1.0
    height, width = texture.shape[:2]
    column = np.minimum((middle[:, 0] * width).astype(int), width - 1)
    row = np.minimum(((1 - middle[:, 1]) * height).astype(int), height - 1)
    return texture[row, column]


def _texture(material: Material) -> Image | None:
    from trimesh.visual.material import PBRMaterial, SimpleMaterial

    if isinstance(material, SimpleMaterial):
        return material.image
    return material.baseColorTexture if isinstance(material, PBRMaterial) else None
