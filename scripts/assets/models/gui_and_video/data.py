"""Training screens of the warm-up, and changes to them that keep every box exact."""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

Pixels = np.ndarray


@dataclass(frozen=True)
class Target:
    """One element that a question may be about; `box` in pixels, xyxy."""

    instruction: str
    box: tuple[int, int, int, int]
    kind: str
    name: str = ""
    element_type: str = "text"


@dataclass(frozen=True)
class ScreenTargets:
    """One screenshot and its elements."""

    image: str
    targets: tuple[Target, ...]


def load_screens(rows_file: Path) -> list[ScreenTargets]:
    """Group the rows of a JSON lines file by screenshot, in file order."""
    screens: dict[str, list[Target]] = {}
    with rows_file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            target = Target(
                row["instruction"],
                tuple(row["bbox"]),
                row["kind"],
                row.get("name") or "",
                row.get("element_type", "text"),
            )
            screens.setdefault(str(rows_file.parent / row["image"]), []).append(target)
    return [ScreenTargets(image, tuple(targets)) for image, targets in screens.items()]


class ImageCache:
    """Decoded screenshots kept in memory: decoding a PNG costs as much as a training step."""

    def __init__(self) -> None:
        self._pixels: dict[str, Pixels] = {}

    def load(self, path: str) -> Pixels:
        """The screenshot as (height, width, 3) bytes."""
        if path not in self._pixels:
            with Image.open(path) as image:
                self._pixels[path] = np.asarray(image.convert("RGB"))
        return self._pixels[path]


def recolour(pixels: Pixels, rng: random.Random) -> Pixels:
    """Invert or swap the channels, then stretch brightness and contrast a little."""
    if rng.random() < 0.3:
        pixels = 255 - pixels
    if rng.random() < 0.5:
        pixels = pixels[..., rng.sample(range(3), 3)]
    gain, bias = rng.uniform(0.7, 1.1), rng.uniform(-20, 20)
    return np.clip(pixels.astype(np.float32) * gain + bias, 0, 255).astype(np.uint8)


def crop(
    pixels: Pixels, targets: list[Target], rng: random.Random, step: int = 28
) -> tuple[Pixels, list[Target]]:
    """Crop a window whose sides are multiples of `step` at any pixel; keep whole elements."""
    height, width = pixels.shape[:2]
    new_height = height - step * rng.randint(0, 4)
    new_width = width - step * rng.randint(0, 3)
    top, left = rng.randint(0, height - new_height), rng.randint(0, width - new_width)
    kept = []
    for target in targets:
        x1, y1, x2, y2 = target.box
        box = (x1 - left, y1 - top, x2 - left, y2 - top)
        if min(box) >= 0 and box[2] <= new_width and box[3] <= new_height:
            kept.append(replace(target, box=box))
    return pixels[top : top + new_height, left : left + new_width], kept


def augment(
    pixels: Pixels, targets: list[Target], rng: random.Random, strength: float
) -> tuple[Pixels, list[Target]]:
    """Crop and recolour with probability `strength`, dropping what would no longer be true."""
    if rng.random() < strength:
        # A place on the page ("the top right button") changes when the page is cropped.
        places = [target for target in targets if target.kind != "region"]
        cut_pixels, kept = crop(pixels, places, rng)
        if kept:
            pixels, targets = cut_pixels, kept
    if rng.random() < strength:
        colourless = [target for target in targets if target.kind != "appearance"]
        if colourless:
            pixels, targets = recolour(pixels, rng), colourless
    return pixels, targets
