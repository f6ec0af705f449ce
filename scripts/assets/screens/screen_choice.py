"""From rendered screens to the embedded set: repeats limited, splits kept apart, a sample drawn."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlrl.gui.capture.capture import Shot, refuse_blank
from vlrl.gui.capture.dataset import limit_repeats, rows_of, save_image, signature, write_jsonl
from vlrl.gui.capture.instructions import ScreenInstructions
from vlrl.gui.capture.records import Row, Screen

SEED = "vlrl-1"
# Rows of one element (name, role, place) and kind over all screens of an application.
REPEATS = {"train": 3, "held_out": 2, "unseen": 2}
MOST_ROWS = {"train": 16, "held_out": 14, "unseen": 14}

Found = tuple[Shot, Screen]


def instruct(shot: Shot, screen: Screen) -> list[Row]:
    """Rows of a screen by the current wording rules, also if it was rendered earlier."""
    pixels = np.asarray(shot.image, dtype=np.uint8)
    refuse_blank(shot.elements, pixels)
    maker = ScreenInstructions(shot.elements, pixels, shot.image.size, f"{SEED}/{screen.id}")
    return rows_of(replace(shot, instructions=maker.build()), screen)


def choose(found: list[Found], limits: dict[str, int]) -> tuple[dict[str, list[Row]], list[Screen]]:
    """Rows by split: repeats limited, held-out rows marked where training saw their element."""
    by_split: dict[str, list[Row]] = {"train": [], "held_out": [], "unseen": []}
    screens: list[Screen] = []
    seen: dict[str, Counter[tuple[Any, ...]]] = {s: Counter() for s in by_split}
    trained: set[Any] = set()
    trained_names: set[Any] = set()
    for shot, screen in sorted(found, key=lambda f: f[1].split != "train"):
        rows = instruct(shot, screen)
        random.Random(f"{SEED}/{screen.id}").shuffle(rows)
        if screen.split == "train":
            trained |= {signature(r) for r in rows}
            trained_names |= {(r.app, r.name.lower(), r.kind) for r in rows}
        elif screen.split == "held_out":
            # Tiles of two windows, and neighbouring scrolls, show one tool at two places.
            by_name = screen.platform == "desktop" or "@" in screen.page
            rows = [
                replace(
                    r,
                    familiar=signature(r) in trained
                    or (by_name and (r.app, r.name.lower(), r.kind) in trained_names),
                )
                for r in rows
            ]
        rows = limit_repeats(rows, limits[screen.split], seen[screen.split])
        rows = rows[: MOST_ROWS[screen.split]]
        if len(rows) >= 2:
            by_split[screen.split] += rows
            screens.append(screen)
    return by_split, screens


def sample(screens: list[Screen], rows: dict[str, list[Row]], most: dict[str, int]) -> set[str]:
    """Ids of the screens to embed: rounds over (app, platform), richest screens first."""
    counts = Counter(r.screen for split in rows.values() for r in split)
    chosen: set[str] = set()
    for split, limit in most.items():
        piles: dict[tuple[str, str], list[Screen]] = {}
        for screen in screens:
            if screen.split == split:
                piles.setdefault((screen.app, screen.platform), []).append(screen)
        for pile in piles.values():
            pile.sort(key=lambda s: (counts[s.id], s.id))
        taken = 0
        while taken < limit and any(piles.values()):
            for key in sorted(piles):
                if piles[key] and taken < limit:
                    chosen.add(piles[key].pop().id)
                    taken += 1
    return chosen


def write_set(
    out: Path,
    found: list[Found],
    rows: dict[str, list[Row]],
    screens: list[Screen],
    names: dict[str, str],
) -> None:
    """Writes images, splits and screens.jsonl for the given screens."""
    wanted = {s.id for s in screens}
    folder = out / "images"
    if folder.is_dir():
        for old in folder.glob("*.webp"):
            old.unlink()
    for shot, screen in found:
        if screen.id in wanted:
            save_image(shot.image, out / screen.image)
    for split, file in names.items():
        write_jsonl(out / file, (r.to_json() for r in rows[split] if r.screen in wanted))
    write_jsonl(out / "screens.jsonl", (s.to_json() for s in screens))
