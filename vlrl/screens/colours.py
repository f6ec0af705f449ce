"""Colour words for elements, read from the pixels that a person sees."""

import colorsys

import numpy as np
import numpy.typing as npt

from vlrl.screens.records import Box

Pixels = npt.NDArray[np.uint8]

# (word, hue from, hue to) in degrees; the gaps between are colours people argue about.
_HUES = (
    ("red", 345, 371),
    ("orange", 20, 38),
    ("yellow", 44, 62),
    ("green", 85, 158),
    ("teal", 167, 186),
    ("blue", 196, 240),
    ("purple", 252, 292),
    ("pink", 305, 338),
)
FILLED_DISTANCE = 36.0  # RGB distance between a box and what is around it


def colour_word(rgb: tuple[float, float, float]) -> str:
    """The plain name of a colour given in 0..255; '' where the name is not clear."""
    red, green, blue = (value / 255 for value in rgb)
    hue, light, _ = colorsys.rgb_to_hls(red, green, blue)
    chroma = max(red, green, blue) - min(red, green, blue)
    if light > 0.96:
        return "white"
    if light < 0.12:
        return "black"
    if chroma < 0.08:
        return "gray" if 0.25 < light < 0.85 else ""
    if chroma < 0.22:
        return ""
    degrees = hue * 360
    for word, start, end in _HUES:
        if start <= degrees <= end or start <= degrees + 360 <= end:
            if word in ("blue", "green", "red") and light < 0.3:
                return f"dark {word}"
            if word in ("blue", "green") and light > 0.72:
                return f"light {word}"
            return word
    return ""


def _mode(pixels: Pixels) -> tuple[tuple[float, float, float], float]:
    """The commonest colour of an (n, 3) list and its share."""
    coarse = (pixels >> 3).astype(np.int32)
    keys = (coarse[:, 0] << 10) | (coarse[:, 1] << 5) | coarse[:, 2]
    values, counts = np.unique(keys, return_counts=True)
    best = values[int(counts.argmax())]
    mean = pixels[keys == best].mean(axis=0)
    return (float(mean[0]), float(mean[1]), float(mean[2])), float(counts.max()) / len(keys)


def _around(image: Pixels, box: Box, reach: int = 4) -> Pixels:
    x1, y1, x2, y2 = box
    height, width = image.shape[:2]
    left, top = max(x1 - reach, 0), max(y1 - reach, 0)
    patch = image[top : min(y2 + reach, height), left : min(x2 + reach, width)]
    inside = np.zeros(patch.shape[:2], dtype=bool)
    inside[y1 - top : y2 - top, x1 - left : x2 - left] = True
    ring: Pixels = patch[~inside].reshape(-1, 3)
    return ring


def fill_word(image: Pixels, box: Box) -> str:
    """Colour word of a filled box that stands out from its surroundings, else ''."""
    x1, y1, x2, y2 = box
    inner = image[y1:y2, x1:x2].reshape(-1, 3)
    ring = _around(image, box)
    if not len(inner) or not len(ring):
        return ""
    fill, share = _mode(inner)
    outside, _ = _mode(ring)
    if share < 0.35 or float(np.linalg.norm(np.subtract(fill, outside))) < FILLED_DISTANCE:
        return ""
    return colour_word(fill)


def is_filled(image: Pixels, box: Box) -> bool:
    """Whether a box differs in colour from what surrounds it."""
    x1, y1, x2, y2 = box
    inner = image[y1:y2, x1:x2].reshape(-1, 3)
    ring = _around(image, box)
    if not len(inner) or not len(ring):
        return False
    fill, _ = _mode(inner)
    outside, _ = _mode(ring)
    return float(np.linalg.norm(np.subtract(fill, outside))) >= FILLED_DISTANCE


def ink_word(image: Pixels, box: Box) -> str:
    """Colour word of the text or icon drawn in a box (its pixels farthest from the ground)."""
    x1, y1, x2, y2 = box
    inner = image[y1:y2, x1:x2].reshape(-1, 3)
    if not len(inner):
        return ""
    ground, _ = _mode(inner)
    distance = np.linalg.norm(inner.astype(np.float64) - np.asarray(ground), axis=1)
    # Anti-aliased edges are paler than the ink; the strongest tenth is the ink itself.
    strong = inner[distance >= max(60.0, float(distance.max()) * 0.85)]
    if len(strong) < 6:
        return ""
    ink, share = _mode(strong)
    return colour_word(ink) if share > 0.3 else ""
