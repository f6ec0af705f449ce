"""From voxels to a coloured mesh: the plain interface of the last, optional step.

A decoder is any `f(occupancy, words, caption, seed) -> ColouredMesh`: bool [R, R, R], the answer's
own words, what was asked for, and the seed of whatever it draws, so that the same codes always
give the same image. `palette` is this project's own and needs nothing. `trellis` calls TRELLIS,
which a user installs (CUDA only): vlrl/mesh/trellis.py.
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
    """Voxels and words to something that can be looked at."""

    def __call__(
        self, occupancy: np.ndarray, words: str, caption: str, seed: int
    ) -> ColouredMesh: ...


class PaletteDecoder:
    """Marching cubes, painted in the colour that the answer's own words name last; else grey.

    It does what a textured decoder does for credit: the colour comes from the words before the
    codes, and an answer that names no colour has none.
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
