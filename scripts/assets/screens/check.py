"""Checks of a written set; returns the problems of its rows."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from PIL import Image

from vlrl.gui.capture.instructions import MAX_LENGTH
from vlrl.gui.capture.records import ELEMENT_TYPES, KINDS, PLATFORMS


def problems(rows: list[dict[str, Any]], root: Path, min_side: int = 12) -> list[str]:
    """Every fault of the rows of a set under `root`; `min_side` in pixels; [] = sound."""
    found: list[str] = []
    ids: set[str] = set()
    sizes: dict[str, tuple[int, int] | None] = {}
    asked: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        name = row["id"]
        if name in ids:
            found.append(f"{name}: id comes twice")
        ids.add(name)
        if row["image"] not in sizes:
            sizes[row["image"]] = _size(root / row["image"])
        size = sizes[row["image"]]
        if size is None:
            found.append(f"{name}: no image {row['image']}")
            continue
        if tuple(row["image_size"]) != size:
            found.append(f"{name}: image_size {row['image_size']} but the image is {size}")
        found += [f"{name}: {fault}" for fault in _box_faults(row["bbox"], size, min_side)]
        found += [f"{name}: {fault}" for fault in _text_faults(row, asked[row["screen"]])]
    return found


def _size(path: Path) -> tuple[int, int] | None:
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return image.size


def _box_faults(box: list[Any], size: tuple[int, int], min_side: int) -> list[str]:
    if len(box) != 4 or not all(isinstance(side, int) for side in box):
        return [f"bbox {box} is not four integers"]
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]):
        return [f"bbox {box} is out of order or outside {size}"]
    return ["bbox is tiny"] if min(x2 - x1, y2 - y1) < min_side else []


def _text_faults(row: dict[str, Any], asked: set[str]) -> list[str]:
    """Faults of the texts of a row; `asked` collects the instructions of its screen."""
    faults = []
    text = row["instruction"]
    if not text or len(text) > MAX_LENGTH or not text.isascii():
        faults.append(f"instruction {text!r} is empty, too long or not ASCII")
    if text.lower() in asked:
        faults.append(f"instruction {text!r} comes twice on its screen")
    asked.add(text.lower())
    for key, allowed in (("kind", KINDS), ("element_type", ELEMENT_TYPES), ("platform", PLATFORMS)):
        if row[key] not in allowed:
            faults.append(f"{key} {row[key]!r} is not one of {', '.join(allowed)}")
    return faults
