"""From shots to a data set: rows, limits on repeats, duplicates, split by page, files."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vlrl.gui.capture.capture import Shot
from vlrl.gui.capture.extract import iou
from vlrl.gui.capture.records import Row, Screen

Signature = tuple[str, str, str, int, int]
SAME_PLACE = 16  # px: elements this close on two screens of an app count as repeats


def slug(screen_id: str) -> str:
    """File name (without ending) of a screen id 'app/name'."""
    return screen_id.replace("/", "__").replace(" ", "-")


def rows_of(shot: Shot, screen: Screen) -> list[Row]:
    """The rows of one shot, in the fixed format."""
    rows = []
    for made in shot.instructions:
        element = shot.elements[made.index]
        rows.append(
            Row(
                id=f"{screen.id}/e{made.index}/{made.kind}",
                image=screen.image,
                image_size=screen.image_size,
                instruction=made.text,
                bbox=element.box,
                kind=made.kind,
                element_type=element.element_type,
                role=element.role,
                name=element.name,
                app=screen.app,
                platform=screen.platform,
                screen=screen.id,
            )
        )
    return rows


def signature(row: Row) -> Signature:
    """What identifies an element of one app: name, role, coarse position."""
    x = (row.bbox[0] + row.bbox[2]) // 2 // SAME_PLACE
    y = (row.bbox[1] + row.bbox[3]) // 2 // SAME_PLACE
    return row.app, row.name.lower(), row.role, x, y


def limit_repeats(rows: Sequence[Row], most: int, seen: Counter[tuple[Any, ...]]) -> list[Row]:
    """Drops rows whose (element signature, kind) came up `most` times before; updates `seen`."""
    kept = []
    for row in rows:
        key = (*signature(row), row.kind)
        if seen[key] < most:
            seen[key] += 1
            kept.append(row)
    return kept


def split_of_page(app: str, page: str, share: float, seed: str) -> str:
    """'held_out' for about `share` of an app's pages, by a hash of the page alone."""
    digest = hashlib.sha256(f"{seed}/{app}/{page}".encode()).digest()
    return "held_out" if int.from_bytes(digest[:4], "big") / 2**32 < share else "train"


def fingerprint(image: Image.Image) -> str:
    """Hash of the exact pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()


class Deduper:
    """Refuses a screen whose elements nearly repeat an earlier one of the same app.

    A fixed menu makes most elements of two scroll positions equal, so a screen that brings
    `enough_new` elements is new whatever it shares.
    """

    def __init__(self, most_shared: float = 0.8, enough_new: int = 3) -> None:
        self._most_shared = most_shared
        self._enough_new = enough_new
        self._prints: set[str] = set()
        self._layouts: dict[tuple[str, tuple[int, int], str], list[dict[str, Any]]] = {}

    def is_new(self, shot: Shot, app: str, theme: str) -> bool:
        """Whether neither the pixels nor the named boxes were seen; remembers the screen."""
        mark = fingerprint(shot.image)
        if mark in self._prints:
            return False
        layout: dict[str, Any] = {}
        for element in shot.elements:
            if not element.dropped:
                layout.setdefault(element.name.lower(), element.box)
        earlier = self._layouts.setdefault((app, shot.image.size, theme), [])
        if layout and any(self._repeats(layout, old) for old in earlier):
            return False
        self._prints.add(mark)
        earlier.append(layout)
        return True

    def _repeats(self, new: dict[str, Any], old: dict[str, Any]) -> bool:
        same = sum(1 for name, box in new.items() if name in old and iou(box, old[name]) > 0.7)
        share = same / max(len(new), len(old), 1)
        return share > self._most_shared and len(new) - same < self._enough_new


def save_image(image: Image.Image, path: Path) -> None:
    """Writes an image losslessly, as webp or png by the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".webp":
        image.save(path, lossless=True, quality=100, method=6)
    else:
        image.save(path, compress_level=4)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Writes one JSON object per line and returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=True) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]
