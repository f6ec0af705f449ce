"""Draws assets/maps: made-up transit maps with questions of three kinds and known difficulty.

    python scripts/assets/maps/draw_maps.py --out assets/maps

Lines run in the eight directions of printed maps, over a grid. Each map has questions with yes or
no, questions that count, and routes to plan; a row holds all that checks its answer.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # runs from a checkout

from scripts.assets.maps.network import MapGraph, make_network
from scripts.assets.maps.picture import draw
from scripts.assets.maps.questions import questions_of

LEVELS = {"easy": 3, "middle": 4, "hard": 6}
"""Difficulty of a map: its number of lines."""
SEED = 28


def write_split(out: Path, split: str, num_maps: int, font: Path) -> int:
    """Write a split; returns its number of rows."""
    rows = []
    for number in range(num_maps):
        level = tuple(LEVELS)[number % len(LEVELS)]
        rng = random.Random(f"{SEED}/{split}/{number}")
        network: MapGraph = make_network(rng, LEVELS[level])
        name = f"images/{split}-{number:02d}.png"
        (out / "images").mkdir(parents=True, exist_ok=True)
        draw(network, font).save(out / name, optimize=True)
        for place, question in enumerate(questions_of(rng, network)):
            row = {"id": f"{split}-{number:02d}/{place}", "images": [name], "map": level}
            rows.append({**row, **question})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (out / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return len(rows)


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "assets/maps")
    parser.add_argument("--train", type=int, default=12, help="maps")
    parser.add_argument("--held-out", type=int, default=6, help="maps")
    parser.add_argument(
        "--font", type=Path, default=Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    )
    args = parser.parse_args()
    for split, count in (("train", args.train), ("held_out", args.held_out)):
        print(f"{split}: {write_split(args.out, split, count, args.font)} questions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
