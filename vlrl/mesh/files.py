"""Objects as files: GLB, PLY, OBJ for other programs, and the codes as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlrl.errors import DataError
from vlrl.mesh.mesh import ColouredMesh
from vlrl.mesh.mesh_words import write_codes
from vlrl.mesh.voxelise import y_up
from vlrl.mesh.voxels import centres


def save_glb(mesh: ColouredMesh, path: Path) -> None:
    """glTF binary, y up as glTF requires, with vertex colours; DataError for an empty mesh.

    (trimesh would write an empty mesh without an error, but no program opens it.)
    """
    import trimesh

    if mesh.is_empty:
        raise DataError(f"{path}: the mesh is empty; there is nothing to write")
    # glTF's vertex colours are linear, sRGB files are not.
    linear = (np.asarray(mesh.colours, np.float64) / 255) ** 2.2
    shade = np.round(255 * linear).astype(np.uint8)
    scene = trimesh.Trimesh(
        y_up(mesh.vertices),
        mesh.faces,
        vertex_colors=np.pad(shade, ((0, 0), (0, 1)), constant_values=255),
        process=False,
    )
    data: Any = scene.export(file_type="glb")
    path.write_bytes(data)


def save_ply(mesh: ColouredMesh, path: Path) -> None:
    """A mesh with vertex colours, z up."""
    _export(mesh, path, "ply")


def save_obj(mesh: ColouredMesh, path: Path) -> None:
    """A mesh with vertex colours after the coordinates, z up, for tools that read only OBJ."""
    _export(mesh, path, "obj")


def load_ply(path: Path) -> ColouredMesh:
    """A mesh that `save_ply` wrote."""
    import trimesh

    made: Any = trimesh.load(path, force="mesh", process=False)
    colours = np.asarray(made.visual.vertex_colors)[:, :3].astype(np.uint8)
    return ColouredMesh(np.asarray(made.vertices), np.asarray(made.faces, np.int64), colours)


def _export(mesh: ColouredMesh, path: Path, kind: str) -> None:
    import trimesh

    if mesh.is_empty:
        raise DataError(f"{path}: the mesh is empty; there is nothing to write")
    whole = np.pad(mesh.colours, ((0, 0), (0, 1)), constant_values=255)
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=whole, process=False)
    data: Any = made.export(file_type=kind)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))


def save_voxel_points(occupancy: np.ndarray, path: Path) -> None:
    """Centres of the occupied voxels as an ASCII PLY, z up, as ShapeLLM-Omni's demo writes them."""
    points = centres(occupancy)
    head = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n"
    head += "property float x\nproperty float y\nproperty float z\nend_header\n"
    rows = "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in points)
    path.write_text(head + rows, encoding="ascii")


def save_codes(codes: Sequence[int], resolution: int, words: str, path: Path) -> None:
    """JSON with the codes, as numbers and in the text form that a model writes."""
    record = {
        "resolution": resolution,
        "num_codes": len(codes),
        "codes": list(codes),
        "text": write_codes(codes),
        "words": words,
    }
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
