"""The images of the embedded text-to-image set: a sprite or a word on a plain colour.

Scripts that write the set and training that draws more images both use this module, so that
a caption always means the same kind of image.
"""

from __future__ import annotations

import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from vlrl.errors import did_you_mean

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "grey": (190, 190, 190),
    "yellow": (255, 240, 140),
    "orange": (255, 196, 128),
    "pink": (255, 186, 208),
    "purple": (206, 176, 245),
    "blue": (158, 206, 250),
    "green": (168, 226, 160),
}
"""Background colours by name, sRGB; the two nearest are 23 apart in CIELAB."""

INK = (24, 24, 24)
MARGIN = 1 / 16
"""Least free border around a word, as a share of the image's side."""


def rgb(colour: str) -> tuple[int, int, int]:
    """The sRGB value of a background colour; ValueError for an unknown name."""
    if colour not in COLOURS:
        raise ValueError(
            f"there is no background colour {colour!r}; {did_you_mean(colour, COLOURS)}"
        )
    return COLOURS[colour]


def compose(sprite: Image.Image, colour: str) -> Image.Image:
    """The RGBA sprite on a plain background; RGB, of the sprite's size."""
    image = Image.new("RGBA", sprite.size, (*rgb(colour), 255))
    image.alpha_composite(sprite.convert("RGBA"))
    return image.convert("RGB")


def draw_word(word: str, colour: str, size_px: int = 64, seed: int = 0) -> Image.Image:
    """The word in dark letters, as large as fits, on a plain background; RGB, square.

    seed: moves the word off the centre, by at most half the margin.
    Raises ValueError for a word that fits at no size.
    """
    margin = max(1, round(MARGIN * size_px))
    font = _largest_font(word, size_px - 2 * margin)
    left, top, right, bottom = _ink(font, word)
    generator = random.Random(seed)
    away = [generator.randint(-(margin // 2), margin // 2) for _ in range(2)]
    image = Image.new("RGB", (size_px, size_px), rgb(colour))
    corner = (
        (size_px - (right - left)) // 2 - left + away[0],
        (size_px - (bottom - top)) // 2 - top + away[1],
    )
    ImageDraw.Draw(image).text(corner, word, fill=INK, font=font)
    return image


@lru_cache(maxsize=4096)
def _largest_font(word: str, room_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's embedded font at the greatest size at which the word fits a square."""
    for size in range(room_px, 3, -1):
        font = _font(size)
        left, top, right, bottom = _ink(font, word)
        if 0 < right - left <= room_px and 0 < bottom - top <= room_px:
            return font
    raise ValueError(f"the word {word!r} does not fit a square of {room_px} px")


def _ink(font: ImageFont.FreeTypeFont, word: str) -> tuple[int, int, int, int]:
    """Box of the drawn pixels from where the text begins; getbbox counts side bearings too."""
    mask, (x, y) = font.getmask2(word, mode="L")
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    return left + x, top + y, right + x, bottom + y


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow is built without FreeType, which draws the words")
    return font
