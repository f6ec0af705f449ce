"""How small, or how large, the image is as a JPEG file: DDPO's toy reward."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, PositiveFloat

from vlrl.reward.image_reward import ImageOptions, ImageReward
from vlrl.types import Rollout


class JpegOptions(ImageOptions):
    """Which way is better, and the size that counts as 1."""

    direction: Literal["compressible", "incompressible"] = "compressible"
    quality: Annotated[int, Field(ge=1, le=95)] = 95
    scale_kb: PositiveFloat = 500.0
    """Size in kilobytes (1000 bytes) that counts as 1; a larger file counts no more."""


class JpegCompressibility(ImageReward):
    """Minus the size in kilobytes over scale_kb, in [-1, 0]; plus, in [0, 1], if incompressible.

    DDPO gives the kilobytes themselves, Flow-GRPO minus kilobytes over 500. Noise of 512 x 512
    pixels makes 310 to 375 kB; for 1024 x 1024 pixels raise scale_kb to 2000.
    """

    Options = JpegOptions
    options: JpegOptions
    range = (-1.0, 0.0)
    formula = "-min(JPEG size / scale_kb, 1) at quality 95; + where direction: incompressible"
    units = "kilobytes (1000 bytes) over scale_kb"
    source = "DDPO (arXiv 2305.13301), there unscaled and without the cut at scale_kb"

    def __init__(self, options: JpegOptions) -> None:
        super().__init__(options)
        self.range = (-1.0, 0.0) if options.direction == "compressible" else (0.0, 1.0)

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One size per image."""
        sign = -1.0 if self.options.direction == "compressible" else 1.0
        sizes_kb = [jpeg_size_kb(image, self.options.quality) for image in images]
        return [sign * min(size_kb / self.options.scale_kb, 1.0) for size_kb in sizes_kb]


def jpeg_size_kb(image: np.ndarray, quality: int = 95) -> float:
    """Size of uint8 [H, W, 3] as a JPEG file, in thousands of bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.tell() / 1000
