"""Screens of the user's own application: a URL or a folder of HTML, link by link."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin, urlsplit

from vlrl.errors import first_line
from vlrl.gui.capture.browser import Browser
from vlrl.gui.capture.capture import Shot, load, shots_of_page, viewport_of
from vlrl.gui.capture.dataset import (
    Deduper,
    limit_repeats,
    rows_of,
    save_image,
    slug,
    split_of_page,
    write_jsonl,
)
from vlrl.gui.capture.extract import ExtractOptions
from vlrl.gui.capture.records import Row, Screen
from vlrl.gui.capture.server import serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

MOBILE_WIDTH = 600  # px; narrower viewports are rendered as a phone
MAX_REASON = 160  # characters
_NOT_PAGES = (".pdf", ".zip", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".css", ".js",
              ".json", ".xml", ".mp4", ".csv")  # fmt: skip


@dataclass(frozen=True)
class CrawlOptions:
    """What to visit; viewports in pixels, `held_out` as a share of the pages."""

    viewports: tuple[tuple[int, int], ...] = ((390, 844), (1280, 800))
    scrolls: int = 2
    max_screens: int = 500
    link_depth: int = 1
    seed: str = "0"
    held_out: float = 0.2
    most_repeats: int = 3
    settle_ms: int = 300
    dark: bool = False
    extract: ExtractOptions = field(default_factory=ExtractOptions)


@dataclass(frozen=True)
class Source:
    """An application to visit: a name and the addresses to start from."""

    app: str
    base: str
    starts: tuple[str, ...]


@contextmanager
def open_source(text: str) -> Iterator[Source]:
    """A URL unchanged; a folder or an HTML file served on 127.0.0.1 while the block runs."""
    if urlsplit(text).scheme in ("http", "https"):
        host = urlsplit(text).hostname or "app"
        yield Source(host, text, (text,))
        return
    path = Path(text).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"--source {text}: neither a URL nor an existing file or folder")
    folder = path if path.is_dir() else path.parent
    pages = sorted(p for p in folder.rglob("*.html") if "node_modules" not in p.parts)
    names = [path.name] if path.is_file() else [str(p.relative_to(folder)) for p in pages]
    if not names:
        raise FileNotFoundError(f"--source {text}: the folder holds no .html file")
    with serve(folder) as base:
        yield Source(folder.name or "app", base, tuple(base + name for name in names))


def same_origin_links(page: Page, url: str) -> list[str]:
    """Addresses of the page's links to its own origin, without fragments, in page order."""
    hrefs = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
    here = urlsplit(url)
    found: dict[str, None] = {}
    for href in hrefs:
        # A single-page application routes by "#/path"; a plain "#part" is the same page.
        full = urljoin(url, href or "")
        target = full if "#/" in full or "#!" in full else urldefrag(full).url
        parts = urlsplit(target)
        same = (parts.scheme, parts.netloc) == (here.scheme, here.netloc)
        if same and not parts.path.lower().endswith(_NOT_PAGES):
            found[target] = None
    return list(found)


def page_key(source: Source, url: str) -> str:
    """Name of a page inside its application, without host and port."""
    parts = urlsplit(url)
    base = urlsplit(source.base)
    text = parts.path.removeprefix(base.path.rsplit("/", 1)[0]) or "/"
    text += f"-{parts.query}" if parts.query else ""
    text += f"-{parts.fragment}" if parts.fragment else ""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in text.strip("/"))
    return kept.strip("-")[:80] or "home"


class Crawler:
    """Visits sources, writes screens, and counts what it leaves out."""

    def __init__(
        self,
        browser: Browser,
        out: Path,
        options: CrawlOptions,
        on_screen: Callable[[int], None] | None = None,
    ) -> None:
        self._browser = browser
        self._out = out
        self._options = options
        self._on_screen = on_screen
        self._dedupe = Deduper()
        self._repeats: Counter[tuple[Any, ...]] = Counter()
        self.rows: dict[str, list[Row]] = {"train": [], "held_out": []}
        self.screens: list[Screen] = []
        self.dropped: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether --max-screens is reached."""
        return len(self.screens) >= self._options.max_screens

    def visit(self, source: Source) -> None:
        """All pages of a source up to the link depth, in every viewport."""
        options = self._options
        queue = deque((url, 0) for url in source.starts)
        known = set(source.starts)
        with ExitStack() as stack:
            pages = [
                stack.enter_context(
                    self._browser.page(v, dark=options.dark, mobile=v[0] < MOBILE_WIDTH)
                )
                for v in options.viewports
            ]
            while queue and not self.full:
                url, depth = queue.popleft()
                for number, page in enumerate(pages):
                    if not self._visit_page(page, source, url) or self.full:
                        break
                    if number == 0 and depth < options.link_depth:
                        for link in same_origin_links(page, url):
                            if link not in known:
                                known.add(link)
                                queue.append((link, depth + 1))
            if queue:
                self.dropped["page not visited: --max-screens reached"] += len(queue)

    def _visit_page(self, page: Page, source: Source, url: str) -> bool:
        try:
            if not load(page, url, settle_ms=self._options.settle_ms):
                self.dropped["page did not load"] += 1
                return False
            name = page_key(source, url)
            width, height = viewport_of(page)
            label = f"{name}-{width}x{height}"
            seed = f"{self._options.seed}/{source.app}/{label}"
            shots = shots_of_page(page, seed, self._options.extract, scrolls=self._options.scrolls)
            for shot in shots:
                self._keep(shot, source, name, label)
                if self.full:
                    break
        except _browser_errors() as error:
            self.dropped[f"page failed: {reason(error)}"] += 1
            return False
        return True

    def _keep(self, shot: Shot, source: Source, page: str, label: str) -> None:
        self.dropped.update(shot.dropped)
        theme = "dark" if self._options.dark else "light"
        if not shot.instructions:
            self.dropped["screen without instructions"] += 1
            return
        if not self._dedupe.is_new(shot, source.app, theme):
            self.dropped["screen repeats another"] += 1
            return
        screen_id = f"{source.app}/{label}-y{shot.scroll}"
        size = shot.image.size
        platform = "mobile" if size[0] < MOBILE_WIDTH else "web"
        split = split_of_page(source.app, page, self._options.held_out, self._options.seed)
        image = f"images/{slug(screen_id)}.webp"
        screen = Screen(
            screen_id, image, size, source.app, platform, size, page, shot.scroll, theme, split
        )
        made = rows_of(shot, screen)
        rows = limit_repeats(made, self._options.most_repeats, self._repeats)
        self.dropped["row repeats an element of other screens"] += len(made) - len(rows)
        if not rows:
            return
        save_image(shot.image, self._out / image)
        self.rows[split] += rows
        self.screens.append(screen)
        if self._on_screen:
            self._on_screen(len(self.screens))

    def write(self) -> None:
        """Writes train.jsonl, held_out.jsonl and screens.jsonl."""
        for split, rows in self.rows.items():
            write_jsonl(self._out / f"{split}.jsonl", (row.to_json() for row in rows))
        write_jsonl(self._out / "screens.jsonl", (screen.to_json() for screen in self.screens))


def reason(error: Exception) -> str:
    """A failure in a few words; addresses lose their paths, so that pages are counted together."""
    words = re.sub(r"(https?://[^/\s\"']+)[^\s\"']*", r"\1", first_line(error))
    return words[:MAX_REASON] or type(error).__name__


def _browser_errors() -> tuple[type[Exception], ...]:
    """What Playwright raises for a page that hangs or breaks; imported late, it is optional."""
    from playwright.sync_api import Error

    return (Error,)
