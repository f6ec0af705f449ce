"""Builds the embedded screens from npm packages and a live JupyterLab.

    python scripts/assets/screens/make_screens.py --out assets/screens --pool /tmp/pool/apps

Downloads by name and version, renders each page natively in small viewports, and splits
by page; `--pool` also writes every training screen, of which --out is a sample.
"""

import argparse
import multiprocessing
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a checkout

from scripts.assets.screens.jupyter_app import jupyter_server
from scripts.assets.screens.new_screen_apps import NEW_APPS
from scripts.assets.screens.npm_packages import unpack
from rich.progress import track
from scripts.assets.screens.screen_app import DESKTOP, App
from scripts.assets.screens.screen_apps import APPS, JUPYTER_STATES
from scripts.assets.screens.screen_choice import REPEATS, SEED, Found, choose, sample, write_set
from scripts.assets.screens.screen_docs import write_docs
from scripts.assets.screens.screen_store import load_found, save_found

from vlrl.gui.capture.browser import Browser
from vlrl.gui.capture.capture import Shot, load, make_shot, screenshot, scroll_to
from vlrl.gui.capture.dataset import Deduper, slug, split_of_page
from vlrl.gui.capture.extract import ExtractOptions, read_page
from vlrl.gui.capture.records import Screen
from vlrl.gui.capture.server import serve

HELD_OUT_SHARE = 0.24
OPTIONS = ExtractOptions()
STATE_PAGES = 5


def redirect_of(app: App, cache: Path) -> Any:
    """Answers requests for files that the package lacks from another package."""
    table = [(part, unpack(package, cache) / path) for part, package, path in app.redirects]

    def redirect(url: str) -> str | None:
        for part, target in table:
            at = url.find(part)
            if at < 0:
                continue
            tail = url[at + len(part) :].split("?")[0].split("#")[0]
            path = target / tail if tail else target
            if path.is_file():
                return str(path)
        return None

    return redirect


def pages_of(app: App, folder: Path) -> list[str]:
    """Page paths of an application, in name order."""
    if app.host_page:
        (folder / "_host.html").write_text(app.host_page, encoding="utf-8")
    found: list[str] = []
    for pattern in app.pages:
        if "#" in pattern:
            found.append(pattern)
            continue
        found += [str(p.relative_to(folder)) for p in sorted(folder.glob(pattern))]
    return [p for p in found if Path(p).stem not in app.skip]


def click_all(page: Any, selectors: tuple[str, ...], dropped: Counter[str]) -> bool:
    """Clicks each selector in turn; False if one is not there."""
    for selector in selectors:
        target = page.locator(selector).first
        try:
            target.click(timeout=4000)
        except Exception:  # Playwright's own error type is imported lazily
            dropped["state not reachable"] += 1
            return False
    page.wait_for_timeout(350)
    return True


def tiles(page: Any, window: tuple[int, int], key: str) -> Iterator[tuple[Shot, str]]:
    """Native-scale tiles of a desktop window, without overlap."""
    raw, image = read_page(page), screenshot(page)
    width, height = DESKTOP
    for row in range(window[1] // height):
        for column in range(window[0] // width):
            x, y = column * width, row * height
            crop = image.crop((x, y, x + width, y + height))
            name = f"tile{row}{column}"
            yield make_shot(raw, crop, f"{key}/{name}", OPTIONS, offset=(x, y)), name


def screen_for(
    app: App,
    platform: str,
    size: tuple[int, int],
    page: str,
    name: str,
    scroll: int,
    theme: str,
) -> Screen:
    """The record of one screen; its image is a lossless webp."""
    screen_id = f"{app.name}/{name}"
    image = f"images/{slug(screen_id)}.webp"
    shown, kind = (DESKTOP, "desktop") if platform == "tile" else (size, platform)
    split = split_for(app, page)
    return Screen(screen_id, image, shown, app.name, kind, size, page, scroll, theme, split)


def split_for(app: App, page: str) -> str:
    """The split of a page."""
    return "unseen" if app.unseen else split_of_page(app.name, page, HELD_OUT_SHARE, SEED)


def page_name(path: str, pages: Sequence[str]) -> str:
    """Short name of a page; with its folder if only that distinguishes it from another page."""
    if "#" in path:
        return path.split("#/")[1] or "home"
    stem = Path(path).with_suffix("")
    alone = stem.name != "index" and sum(Path(p).stem == stem.name for p in pages) == 1
    return stem.name if alone else "-".join(stem.parts[-2:])


class Collector:
    """Goes through the pages of applications and keeps the new screens."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.found: list[Found] = []
        self.dropped: Counter[str] = Counter()
        self.dedupe = Deduper()
        self.states_done: Counter[tuple[str, str, str]] = Counter()

    def watch(self, page: Any) -> None:
        """Counts style sheets that fail to load: such a page still yields boxes, but ugly ones."""

        def check(answer: Any) -> None:
            if answer.status >= 400 and answer.request.resource_type == "stylesheet":
                self.dropped["style sheet missing"] += 1

        page.on("response", check)

    def keep(self, app: App, shot: Shot, screen: Screen) -> None:
        """Keeps a screen that is new and has at least two rows."""
        self.dropped.update(shot.dropped)
        if len(shot.instructions) < 2:
            self.dropped["screen with fewer than 2 rows"] += 1
        elif not self.dedupe.is_new(shot, app.name, screen.theme):
            self.dropped["screen repeats another"] += 1
        else:
            self.found.append((shot, screen))

    def small(
        self,
        page: Any,
        app: App,
        url: str,
        name: str,
        platform: str,
        size: tuple[int, int],
        theme: str,
    ) -> None:
        """All states and scroll positions of one page in one small viewport."""
        ground = f"{size[0]}x{size[1]}"
        for state, clicks in (app.states or {"": ()}).items():
            # An open menu is the same on each page; a few pages of it are enough.
            if state and self.states_done[platform, theme, state] >= STATE_PAGES:
                continue
            if not load(page, url, settle_ms=app.settle_ms, wait_for=app.wait_for):
                self.dropped["page did not load"] += 1
                return
            if app.css:
                page.add_style_tag(content=app.css)
            if theme == "dark":
                page.evaluate(app.dark)
            if clicks and not click_all(page, clicks, self.dropped):
                continue
            self.states_done[platform, theme, state] += 1
            seen: set[int] = set()
            for i in range(1 if clicks else app.scrolls - (theme == "dark")):
                at = 0 if clicks else scroll_to(page, int(i * size[1] * 0.85))
                if at in seen:
                    break
                seen.add(at)
                parts = [name, state, "dark" if theme == "dark" else "", ground, f"s{i}"]
                label = "-".join(p for p in parts if p)
                # One-page applications are split by scroll position, elsewhere pages stay whole.
                where = f"{name}@{i}" if app.scrolls > 6 else name
                screen = screen_for(app, platform, size, where, label, at, theme)
                raw = read_page(page)
                shot = make_shot(raw, screenshot(page), f"{SEED}/{screen.id}", OPTIONS, scroll=at)
                self.keep(app, shot, screen)

    def windows(
        self,
        page: Any,
        app: App,
        url: str,
        window: tuple[int, int],
        states: dict[str, tuple[str, ...]],
    ) -> None:
        """Tiles of one native window in all states."""
        for state, clicks in states.items():
            try:
                if not load(page, url, settle_ms=app.settle_ms, wait_for=app.wait_for):
                    self.dropped["page did not load"] += 1
                    return
            except Exception as error:  # Playwright's own error type is imported lazily
                self.dropped[f"page failed: {type(error).__name__}"] += 1
                continue
            if app.css:
                page.add_style_tag(content=app.css)
            if clicks and not click_all(page, clicks, self.dropped):
                continue
            key = f"{state or 'start'}-{window[0]}x{window[1]}"
            for shot, tile in tiles(page, window, f"{SEED}/{app.name}/{key}"):
                screen = screen_for(app, "tile", window, tile, f"{key}-{tile}", 0, "light")
                self.keep(app, shot, screen)

    def run(self, browser: Browser, app: App) -> None:
        """All screens of one npm application."""
        folder = unpack(app.package, self.cache) / app.root
        redirect, pages = redirect_of(app, self.cache), pages_of(app, folder)
        with serve(folder) as base:
            for platform, size in app.viewports:
                for theme in ("light", "dark") if app.dark else ("light",):
                    with browser.page(
                        size, dark=theme == "dark", mobile=platform == "mobile", redirect=redirect
                    ) as page:
                        self.watch(page)
                        for path in pages:
                            name = page_name(path, pages)
                            try:
                                self.small(page, app, base + path, name, platform, size, theme)
                            except Exception as error:
                                self.dropped[f"page failed: {type(error).__name__}"] += 1
            for window in app.windows:
                with browser.page(window, redirect=redirect) as page:
                    for path in pages:
                        self.windows(page, app, base + path, window, app.states or {"": ()})

    def run_jupyter(self, browser: Browser, command: Path | None) -> None:
        """All screens of a live JupyterLab."""
        app = App("jupyterlab", "jupyterlab", "BSD-3-Clause", (), unseen=True, settle_ms=1500,
                  wait_for="#jp-main-dock-panel .lm-TabBar-tab",
                  css=".Toastify,.jp-toast-container{display:none!important}")  # fmt: skip
        with jupyter_server(self.cache, command) as urls:
            for window in (DESKTOP, (1008, 728)):
                with browser.page(window) as page:
                    for name, url in urls.items():
                        states = JUPYTER_STATES if name == "lab" else {name: ()}
                        self.windows(page, app, url, window, states)


def collect(job: tuple[str, Path, Path | None]) -> tuple[list[Found], Counter[str], str]:
    """All screens of one application by name, in a browser of its own; cached for the next run."""
    name, cache, jupyter = job
    store = cache / "shots" / name
    kept = load_found(store)
    if kept is not None:
        return *kept, f"{name}: {len(kept[0])} screens from {store}"
    began = time.monotonic()
    collector = Collector(cache)
    # A busy machine loads big applications slowly, and a lost screen changes the data set.
    with Browser(timeout_ms=45_000) as browser:
        if name == "jupyterlab":
            collector.run_jupyter(browser, jupyter)
        else:
            collector.run(browser, next(a for a in (*APPS, *NEW_APPS) if a.name == name))
    seconds = time.monotonic() - began
    save_found(store, collector.found, collector.dropped)
    return (
        collector.found,
        collector.dropped,
        f"{name}: {len(collector.found)} screens, {seconds:.0f} s",
    )


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pool", type=Path, help="also write all training screens here")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/vlrl-npm"))
    parser.add_argument(
        "--jupyter", type=Path, help="a jupyter command (default: made in the cache)"
    )
    parser.add_argument(
        "--new", action="store_true", help="the applications of assets/new_screens instead"
    )
    parser.add_argument("--only", action="append", default=[], help="names of applications")
    parser.add_argument("--fresh", action="store_true", help="render again what --cache holds")
    parser.add_argument("--jobs", type=int, default=2, help="browsers at once")
    parser.add_argument("--train-screens", type=int, default=240)
    args = parser.parse_args()
    started = time.monotonic()
    if args.fresh:
        shutil.rmtree(args.cache / "shots", ignore_errors=True)
    names = [a.name for a in NEW_APPS] if args.new else [*(a.name for a in APPS), "jupyterlab"]
    jobs = [(n, args.cache, args.jupyter) for n in names if not args.only or n in args.only]
    found: list[Found] = []
    dropped: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        done = pool.imap(collect, jobs)
        for part, part_dropped, line in track(done, total=len(jobs), description="applications"):
            found += part
            dropped.update(part_dropped)
            print(line, flush=True)
    rows, screens = choose(found, REPEATS)
    if args.pool:
        training = [s for s in screens if s.split == "train"]
        write_set(args.pool, found, rows, training, {"train": "train.jsonl"})
    most = {"train": args.train_screens, "held_out": 160, "unseen": 90}
    chosen = sample(screens, rows, most)
    kept = [
        replace(s, split="unseen_apps" if s.split == "unseen" else s.split)
        for s in screens
        if s.id in chosen
    ]
    files = {"train": "train.jsonl", "held_out": "held_out.jsonl"}
    if not args.new:
        files["unseen"] = "unseen_apps.jsonl"
    write_set(args.out, found, rows, kept, files)
    write_docs(args.out, dropped)
    print(f"{len(kept)} screens of {len(found)} in {time.monotonic() - started:.0f} s")
    print("dropped", dict(dropped.most_common()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
