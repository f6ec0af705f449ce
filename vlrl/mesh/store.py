"""Many voxel grids in one `.npz`: the occupancy's bits and a colour name per voxel.

`<name>`: uint8 [R^3 / 8], packed bits in C order; `<name>.colours`: uint8, an index into
COLOURS for every occupied voxel, in the same order. Plain arrays, read without pickle.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from vlrl.errors import DataError, did_you_mean, first_line
from vlrl.mesh.colour_names import COLOURS, nearest_colour
from vlrl.mesh.mesh import GREY
from vlrl.mesh.voxelise import Voxels, load_mesh, voxelise, z_up


def save_shapes(path: Path, shapes: Mapping[str, Voxels]) -> None:
    """Write all shapes into one file."""
    arrays: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        arrays[name] = np.packbits(shape.occupancy.ravel())
        words = nearest_colour(shape.colours[shape.occupancy])
        arrays[f"{name}.colours"] = words.astype(np.uint8)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load_shape(reference: str, resolution: int | None = None) -> Voxels:
    """A shape named by `file.npz#name`, or a mesh file, voxelised (y-up as glTF and OBJ are).

    resolution: voxels per side to voxelise a mesh at, which a stored shape must have. Raises
    DataError.
    """
    path, _, name = reference.partition("#")
    if not name:
        if resolution is None:
            raise DataError(f"{reference}: a mesh needs a resolution to be voxelised at")
        return _voxelised(path, resolution)
    shape = _stored(path, name)
    if resolution is not None and shape.occupancy.shape[0] != resolution:
        raise DataError(
            f"{reference}: has {shape.occupancy.shape[0]} voxels per side, not {resolution}"
        )
    return shape


@lru_cache(maxsize=1024)
def _voxelised(path: str, resolution: int) -> Voxels:
    vertices, faces, colours = load_mesh(path)
    try:
        return voxelise(z_up(vertices), faces, resolution, colours)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


@lru_cache(maxsize=4)
def _open(path: str) -> Mapping[str, np.ndarray]:
    with _reading(path):
        zipfile.ZipFile(path).close()  # numpy would leave a file open that is no archive
        found: Mapping[str, np.ndarray] = np.load(path, allow_pickle=False)
        return found


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Whatever numpy, zipfile and zlib raise on a broken file is a DataError."""
    try:
        yield
    except Exception as error:  # of a dozen kinds, which share no base
        why = f"{type(error).__name__}: {first_line(error)[:200]}"
        raise DataError(
            f"{path}: cannot be read as a file of shapes ({why}); replace it"
        ) from error


def _bytes_in(arrays: Mapping[str, np.ndarray], name: str, path: str) -> np.ndarray:
    """An array of bytes, uint8 [N]; arrays are unpacked here."""
    with _reading(path):
        found = arrays[name]
        if found.dtype != np.uint8 or found.ndim != 1:
            raise ValueError(f"{name!r} holds {found.dtype} {found.shape}, not a row of bytes")
        return found


@lru_cache(maxsize=4096)
def _stored(path: str, name: str) -> Voxels:
    arrays = _open(path)
    if name not in arrays:
        raise DataError(f"{path}: holds no shape {name!r}; {did_you_mean(name, list(arrays))}")
    bits = np.unpackbits(_bytes_in(arrays, name, path))
    side = round(len(bits) ** (1 / 3))
    if side**3 != len(bits):
        raise DataError(f"{path}: {name!r} has {len(bits)} voxels, which is not a cube")
    occupancy = bits.astype(bool).reshape(side, side, side)
    colours = np.empty((side, side, side, 3), np.uint8)
    colours[:] = GREY
    palette = np.array(list(COLOURS.values()), np.uint8)
    words = _bytes_in(arrays, f"{name}.colours", path)
    if len(words) != occupancy.sum() or (words >= len(palette)).any():
        raise DataError(
            f"{path}: the colours of {name!r} do not fit its {occupancy.sum()} voxels; replace "
            "the file"
        )
    colours[occupancy] = palette[words]
    occupancy.setflags(write=False)
    colours.setflags(write=False)
    return Voxels(occupancy, colours)
