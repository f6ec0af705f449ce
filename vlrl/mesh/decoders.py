"""From voxels to a coloured mesh: the interface of the last, optional step.

A decoder is any `f(occupancy, words, caption, seed) -> ColouredMesh`: bool [R, R, R], the answer's
own text, the caption, and the seed of all random numbers, so that the same codes always give the
same image. `palette` is this project's own and needs no package. `trellis` calls TRELLIS, which a
user installs (CUDA only): vlrl/mesh/trellis.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vlrl.errors import ConfigError, did_you_mean
from vlrl.mesh.colour_names import COLOURS, colours_in
from vlrl.mesh.mesh import GREY, ColouredMesh
from vlrl.mesh.surface import surface


class ShapeDecoder(Protocol):
    """Voxels and words to a mesh that can be rendered."""

    def __call__(
        self, occupancy: np.ndarray, words: str, caption: str, seed: int
    ) -> ColouredMesh: ...


class PaletteDecoder:
    """Marching cubes, painted in the last colour that the answer's text names; else grey.

    As with a textured decoder, the colour depends on the text before the codes; an answer that
    names no colour is grey.
    """

    def __call__(self, occupancy: np.ndarray, words: str, caption: str, seed: int) -> ColouredMesh:
        """The surface; an empty grid gives an empty mesh."""
        named = colours_in(words)
        mesh = surface(occupancy)
        return mesh.painted(np.array(COLOURS[named[-1]] if named else GREY, np.uint8))


def make_decoder(name: str, model: str) -> ShapeDecoder:
    """The decoder of that name; raises ConfigError."""
    if name == "palette":
        return PaletteDecoder()
    if name == "trellis":
        from vlrl.mesh.trellis import TrellisDecoder

        return TrellisDecoder(model)
    raise ConfigError(f"unknown decoder {name!r}; {did_you_mean(name, ('palette', 'trellis'))}")


def seed_of(sample_id: str, codes: Sequence[int]) -> int:
    """A seed that depends on the sample and the codes alone."""
    text = f"{sample_id}:{','.join(map(str, codes))}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
