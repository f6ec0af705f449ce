"""Renders synthetic pages for warm-up training; they are not stored in the repository.

python scripts/assets/screens/make_pages.py --out /tmp/pages --count 3000 --jobs 2
"""

import argparse
import multiprocessing
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a checkout

from scripts.assets.screens.npm_packages import unpack

from vlrl.gui.capture.browser import Browser
from vlrl.gui.capture.capture import shoot
from vlrl.gui.capture.dataset import rows_of, save_image, write_jsonl
from vlrl.gui.capture.extract import ExtractOptions
from scripts.assets.screens.pages import load_icons, make_page
from vlrl.gui.capture.records import Row, Screen

# Sides are multiples of 28 px: one visual token of the usual models.
VIEWPORTS = {"mobile": (280, 504), "web": (448, 364), "desktop": (504, 364)}
ICON_PACKAGES = {"bootstrap-icons@1.13.2": "icons", "@tabler/icons@3.51.0": "icons/outline"}
MOST_ROWS = 14  # rows kept of one page, so that dense pages do not outweigh the rest


def render(
    job: tuple[int, int, str, Path, dict[str, list[str]], str],
) -> tuple[list[Row], list[Screen], dict[str, int]]:
    """Renders the pages `start` to `stop` of one platform; returns rows, screens and drops."""
    start, stop, platform, out, icons, seed = job
    size = VIEWPORTS[platform]
    rows: list[Row] = []
    screens: list[Screen] = []
    dropped: Counter[str] = Counter()
    options = ExtractOptions()
    with Browser() as browser, browser.page(size, guarded=False) as page:
        for number in range(start, stop):
            key = f"{seed}/{platform}/{number}"
            page.set_content(make_page(key, platform, icons), wait_until="commit")
            shot = shoot(page, key, options)
            dropped.update(shot.dropped)
            name = f"pages/{platform}-{number}"
            image = f"images/{platform}-{number}.webp"
            screen = Screen(
                name, image, size, "pages", platform, size, f"{platform}-{number}", 0, "any"
            )
            made = rows_of(shot, screen)
            random.Random(key).shuffle(made)
            if not made:
                dropped["page without rows"] += 1
                continue
            save_image(shot.image, out / image)
            rows.extend(made[:MOST_ROWS])
            screens.append(screen)
    return rows, screens, dict(dropped)


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=3000, help="pages in all")
    parser.add_argument("--jobs", type=int, default=1, help="browsers at once")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/vlrl-npm"))
    parser.add_argument("--icons", type=Path, action="append", default=[], help="folder of *.svg")
    args = parser.parse_args()
    folders = args.icons or [unpack(n, args.cache) / sub for n, sub in ICON_PACKAGES.items()]
    icons = load_icons(folders)
    started = time.monotonic()
    step = 50
    jobs = []
    for platform, share in (("mobile", 0.34), ("web", 0.33), ("desktop", 0.33)):
        total = round(args.count * share)
        jobs += [
            (at, min(at + step, total), platform, args.out, icons, args.seed)
            for at in range(0, total, step)
        ]
    rows: list[Row] = []
    screens: list[Screen] = []
    dropped: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for part_rows, part_screens, part_dropped in pool.imap(render, jobs):
            rows += part_rows
            screens += part_screens
            dropped.update(part_dropped)
    write_jsonl(args.out / "train.jsonl", (row.to_json() for row in rows))
    write_jsonl(args.out / "screens.jsonl", (screen.to_json() for screen in screens))
    seconds = time.monotonic() - started
    print(
        f"{len(screens)} pages, {len(rows)} rows in {seconds:.0f} s, "
        f"{len(screens) / seconds:.1f} pages/s"
    )
    print("kinds", dict(Counter(row.kind for row in rows)))
    print("dropped", dict(dropped.most_common()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
