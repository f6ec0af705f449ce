"""Eleven colour words (the basic colour terms of English) and the sRGB that each stands for."""

from __future__ import annotations

import re

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (35, 35, 38),
    "white": (238, 238, 234),
    "grey": (140, 140, 142),
    "red": (190, 45, 40),
    "orange": (225, 130, 45),
    "yellow": (230, 205, 70),
    "green": (70, 135, 65),
    "blue": (55, 95, 175),
    "purple": (125, 75, 150),
    "pink": (228, 150, 175),
    "brown": (125, 80, 48),
}
_SPELT = {"gray": "grey", "violet": "purple", "beige": "brown", "wooden": "brown"}
_WORD = re.compile(r"[a-z]+")


def lab(srgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of uint8 sRGB [..., 3], in which distances match perception roughly."""
    linear = np.asarray(srgb, np.float64) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    )  # fmt: skip
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def nearest_colour(srgb: np.ndarray) -> np.ndarray:
    """Index of the nearest colour word by CIELAB distance, uint8 [..., 3] -> int [...]."""
    words = lab(np.array(list(COLOURS.values())))
    return ((lab(srgb)[..., None, :] - words) ** 2).sum(-1).argmin(-1)


def colours_in(text: str) -> list[str]:
    """Colour words of a text in order, without repetitions."""
    found = (_SPELT.get(word, word) for word in _WORD.findall(text.lower()))
    return list(dict.fromkeys(word for word in found if word in COLOURS))
