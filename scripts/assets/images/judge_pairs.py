"""Preference pairs of known truth, made from the embedded sprites.

    quality    the same image, degraded by two known amounts (scripts/assets/images/degrade.py)
    caption    the correct image against one with another object, background or number

Each row names the severity of both: the gold score of an image is -severity.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.assets.images.compose import COLOURS, compose, rgb
from scripts.assets.images.degrade import DEGRADATIONS, HELD_OUT_KINDS, degrade

STYLES = ("fluent", "noto")
CAPTION_KINDS = ("wrong_object", "wrong_background", "wrong_count")
TRAINED_KINDS = (*(k for k in DEGRADATIONS if k not in HELD_OUT_KINDS), *CAPTION_KINDS)
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
PLACES = {1: ((16, 16),), 2: ((2, 16), (34, 16)), 3: ((2, 2), (34, 2), (18, 34)),
          4: ((2, 2), (34, 2), (2, 34), (34, 34))}  # fmt: skip
"""Left and top of each 28 px sprite of an image of 64 px."""


@dataclass(frozen=True)
class MadePair:
    """A pair with its images."""

    caption: str
    chosen: Image.Image
    rejected: Image.Image
    kind: str
    severity: tuple[float, float]
    """Of the chosen and of the rejected image."""
    fields: Mapping[str, Any]


class PairMaker:
    """Draws pairs; the same for the same seed and rows."""

    def __init__(
        self, assets: Path, rows: Sequence[Mapping[str, Any]], seed: int, *, hard: bool = False
    ) -> None:
        """hard: severities that are close to each other, and wrong objects of the same category."""
        self.assets, self.rows, self.hard = assets, list(rows), hard
        self.rng = random.Random(seed)
        self._sprites: dict[str, Image.Image] = {}

    def draw(self, num: int, kinds: Sequence[str]) -> Iterator[MadePair]:
        """`num` pairs, the kinds in turn."""
        for i in range(num):
            yield self.pair(kinds[i % len(kinds)])

    def pair(self, kind: str) -> MadePair:
        """One pair of a kind."""
        row, style = self.rng.choice(self.rows), self.rng.choice(STYLES)
        fields = {"concept": row["concept"], "style": style}
        if kind == "wrong_count":
            return self._count(row, style, fields)
        right = self.image(row, style)
        if kind in CAPTION_KINDS:
            wrong, severity = self._wrong(kind, row, style)
            return MadePair(row["caption"], right, wrong, kind, (0.0, severity), fields)
        low, high = self._severities()
        seed = self.rng.getrandbits(32)
        better, worse = (degrade(kind, right, severity, seed) for severity in (low, high))
        return MadePair(row["caption"], better, worse, kind, (low, high), fields)

    def image(self, row: Mapping[str, Any], style: str) -> Image.Image:
        """The row's object on its background."""
        return compose(self.sprite(row, style), row["colour"])

    def sprite(self, row: Mapping[str, Any], style: str) -> Image.Image:
        """The row's object, RGBA."""
        slug = row["id"].rpartition("--")[0]
        key = f"{style}/{slug}.png"
        if key not in self._sprites:
            with Image.open(self.assets / key) as image:
                self._sprites[key] = image.convert("RGBA")
        return self._sprites[key]

    def _severities(self) -> tuple[float, float]:
        if self.hard:
            low = self.rng.uniform(0.0, 0.6)
            return round(low, 3), round(low + self.rng.uniform(0.2, 0.4), 3)
        low = 0.0 if self.rng.random() < 0.6 else self.rng.uniform(0.05, 0.45)
        return round(low, 3), round(self.rng.uniform(low + 0.3, 1.0), 3)

    def _wrong(self, kind: str, row: Mapping[str, Any], style: str) -> tuple[Image.Image, float]:
        if kind == "wrong_background":
            others = [colour for colour in COLOURS if colour != row["colour"]]
            return compose(self.sprite(row, style), self.rng.choice(others)), 0.5
        alike = self.hard and self.rng.random() < 0.7
        while True:
            other = self.rng.choice(self.rows)
            near = other["category"] == row["category"]
            if other["concept"] != row["concept"] and (near or not alike):
                break
        return compose(self.sprite(other, style), row["colour"]), 0.75 if near else 1.0

    def _count(self, row: Mapping[str, Any], style: str, fields: Mapping[str, Any]) -> MadePair:
        right = self.rng.randint(1, 4)
        near = [n for n in NUMBERS if abs(n - right) == 1]
        others = [n for n in NUMBERS if n != right]
        wrong = self.rng.choice(near if self.hard else others)
        caption = f"{NUMBERS[right]} times {row['caption']}"
        chosen, rejected = (self._several(row, style, n) for n in (right, wrong))
        severity = 0.25 * abs(right - wrong)
        return MadePair(caption, chosen, rejected, "wrong_count", (0.0, severity), fields)

    def _several(self, row: Mapping[str, Any], style: str, count: int) -> Image.Image:
        small = self.sprite(row, style).resize((28, 28), Image.Resampling.LANCZOS)
        image = Image.new("RGBA", (64, 64), (*rgb(row["colour"]), 255))
        for place in PLACES[count]:
            image.alpha_composite(small, place)
        return image.convert("RGB")


def write_pairs(pairs: Iterator[MadePair], file: Path, prefix: str) -> int:
    """JSON lines in the `pairs` layout, with the images in a folder next to them; returns how many."""
    folder = file.parent / f"{file.stem}_images"
    folder.mkdir(parents=True, exist_ok=True)
    num = 0
    with file.open("w", encoding="utf-8") as lines:
        for num, made in enumerate(pairs, start=1):
            names = []
            for side, image in (("c", made.chosen), ("r", made.rejected)):
                name = f"{folder.name}/{num:06d}{side}.png"
                image.save(file.parent / name, compress_level=1)
                names.append(name)
            row = {
                "id": f"{prefix}/{num:06d}",
                "caption": made.caption,
                "chosen": names[0],
                "rejected": names[1],
                "kind": made.kind,
                "severity": list(made.severity),
                **made.fields,
            }
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return num


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a captions file of the embedded set."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
