"""Images degraded by a known amount, so that the true preference needs no annotator.

severity: 0 leaves an image unchanged, 1 is the worst. An image's own gold score is -severity.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from vlrl.errors import did_you_mean

Degradation = Callable[[Image.Image, float, random.Random], Image.Image]


def blur(image: Image.Image, severity: float, rng: random.Random) -> Image.Image:
    """Gaussian blur of up to a twelfth of the side."""
    return image.filter(ImageFilter.GaussianBlur(severity * image.width / 12))


def noise(image: Image.Image, severity: float, rng: random.Random) -> Image.Image:
    """Normal noise of up to 80 grey levels on every channel."""
    generator = np.random.default_rng(rng.getrandbits(32))
    pixels = np.asarray(image, dtype=np.float32)
    noisy = pixels + generator.normal(0.0, 80.0 * severity, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, severity: float, rng: random.Random) -> Image.Image:
    """JPEG of quality 60 down to 2."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=max(2, round(60 - 58 * severity)))
    with Image.open(buffer) as read:
        return read.convert("RGB")


def occlusion(image: Image.Image, severity: float, rng: random.Random) -> Image.Image:
    """A grey square of up to two thirds of the side, somewhere near the middle."""
    side = max(2, round(severity * image.width * 2 / 3))
    left, top = (round((length - side) * (0.5 + rng.uniform(-0.35, 0.35))) for length in image.size)
    covered = image.copy()
    covered.paste((rng.randint(60, 140),) * 3, (left, top, left + side, top + side))
    return covered


def pixelate(image: Image.Image, severity: float, rng: random.Random) -> Image.Image:
    """Squares of up to a sixth of the side, each of one colour."""
    size = max(2, round(image.width / (1 + severity * (image.width / 6 - 1))))
    small = image.resize((size, size), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def washed_out(image: Image.Image, severity: float, rng: random.Random) -> Image.Image:
    """Faded towards grey, by up to 90 %."""
    return Image.blend(image, Image.new("RGB", image.size, (150, 150, 150)), 0.9 * severity)


def streaks(image: Image.Image, severity: float, rng: random.Random) -> Image.Image:
    """Up to a third of the columns swapped with distant ones."""
    pixels = np.asarray(image).copy()
    width = pixels.shape[1]
    for column in rng.sample(range(width), round(severity * width / 3)):
        pixels[:, column] = pixels[:, (column + width // 2) % width]
    return Image.fromarray(pixels)


DEGRADATIONS: dict[str, Degradation] = {
    "blur": blur,
    "noise": noise,
    "jpeg": jpeg,
    "occlusion": occlusion,
    "pixelate": pixelate,
    "washed_out": washed_out,
    "streaks": streaks,
}
HELD_OUT_KINDS = ("pixelate", "washed_out", "streaks")
"""Kinds that no embedded judge is trained on."""


def degrade(kind: str, image: Image.Image, severity: float, seed: int) -> Image.Image:
    """The degraded image, RGB and of the same size; the same for the same seed.

    Raises ValueError for an unknown kind and for a severity outside [0, 1].
    """
    if kind not in DEGRADATIONS:
        raise ValueError(f"unknown degradation {kind!r}; {did_you_mean(kind, DEGRADATIONS)}")
    if not 0 <= severity <= 1:
        raise ValueError(f"a severity lies in [0, 1], not {severity!r}")
    image = image.convert("RGB")
    return image if severity == 0 else DEGRADATIONS[kind](image, severity, random.Random(seed))
