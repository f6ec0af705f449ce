"""Colour words for elements, read from the pixels that a person sees."""

import colorsys
import re

import numpy as np
import numpy.typing as npt

from vlrl.gui.capture.records import Box

Pixels = npt.NDArray[np.uint8]
Rgb = tuple[float, float, float]

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


def colour_word(rgb: Rgb) -> str:
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


def css_colour(text: str) -> Rgb | None:
    """The colour of 'rgb(1, 2, 3)' or 'rgba(...)' as 0..255; None for other notations."""
    match = re.match(r"rgba?\((\d+), (\d+), (\d+)", text)
    return (float(match[1]), float(match[2]), float(match[3])) if match else None


def _mode(pixels: Pixels) -> tuple[Rgb, float]:
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


def fill_rgb(image: Pixels, box: Box) -> Rgb | None:
    """Colour (0..255) of a box that stands out from its surroundings, else None."""
    x1, y1, x2, y2 = box
    inner = image[y1:y2, x1:x2].reshape(-1, 3)
    ring = _around(image, box)
    if not len(inner) or not len(ring):
        return None
    fill, _ = _mode(inner)
    outside, _ = _mode(ring)
    return fill if distance(fill, outside) >= FILLED_DISTANCE else None


def distance(a: Rgb, b: Rgb) -> float:
    """Euclidean distance of two RGB colours."""
    return float(np.linalg.norm(np.subtract(a, b)))


def fill_word(image: Pixels, box: Box) -> str:
    """Colour word of a box that is filled with one colour, else ''."""
    fill = fill_rgb(image, box)
    if fill is None:
        return ""
    x1, y1, x2, y2 = box
    _, share = _mode(image[y1:y2, x1:x2].reshape(-1, 3))
    return colour_word(fill) if share >= 0.35 else ""


def is_blank(image: Pixels, box: Box) -> bool:
    """Whether nothing is drawn in a box (an icon font that did not load)."""
    x1, y1, x2, y2 = box
    inner = image[y1:y2, x1:x2].reshape(-1, 3)
    if not len(inner):
        return True
    ground, _ = _mode(inner)
    gaps = np.linalg.norm(inner.astype(np.float64) - np.asarray(ground), axis=1)
    return int((gaps > 24.0).sum()) < 6


def ink_word(image: Pixels, box: Box) -> str:
    """Colour word of the text or icon drawn in a box (its pixels farthest from the ground)."""
    x1, y1, x2, y2 = box
    inner = image[y1:y2, x1:x2].reshape(-1, 3)
    if not len(inner):
        return ""
    ground, _ = _mode(inner)
    gaps = np.linalg.norm(inner.astype(np.float64) - np.asarray(ground), axis=1)
    # Anti-aliased edges are paler than the ink; the strongest pixels are the ink itself.
    strong = inner[gaps >= max(60.0, float(gaps.max()) * 0.85)]
    if len(strong) < 6:
        return ""
    ink, share = _mode(strong)
    drawn = inner[gaps >= 60.0].astype(np.float64)
    near = np.linalg.norm(drawn - np.asarray(ink), axis=1) < 90.0
    # Where a badge or a second colour makes up half of the drawing, no colour names it.
    return colour_word(ink) if share > 0.3 and float(near.mean()) > 0.55 else ""
