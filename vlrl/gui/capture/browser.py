"""Life cycle of headless Chromium: flags, request blocking, frozen time, saved log-in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

INSTALL_HINT = (
    "`vlrl screens` needs Playwright and a Chromium: run `uv pip install -e '.[browser]'` "
    "and `apt-get install chromium` (or name a browser with --chromium PATH)."
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
)
CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# 2025-03-12 10:24 UTC: calendars and "3 minutes ago" come out the same on each run.
FROZEN_TIME_S = 1_741_775_040
# Charts that draw random numbers would change the image from run to run.
SEED_SCRIPT = """
(() => { let s = 123456789; Math.random = () => {
  s ^= s << 13; s ^= s >>> 17; s ^= s << 5; return (s >>> 0) / 4294967296; }; })();
"""
# Zero length rather than `none`: an element that fades in must end up visible.
STILL_CSS = """
*, *::before, *::after { animation-duration: 0s !important; animation-delay: 0s !important;
  animation-iteration-count: 1 !important; transition-duration: 0s !important;
  transition-delay: 0s !important; caret-color: transparent !important;
  scroll-behavior: auto !important; }
"""


class BrowserMissingError(RuntimeError):
    """Playwright or Chromium is not installed."""


def find_chromium(path: str | None = None) -> str:
    """Path of a Chromium to start, or BrowserMissingError with what to install."""
    if path:
        if not Path(path).exists():
            raise BrowserMissingError(f"no browser at {path}. {INSTALL_HINT}")
        return path
    for name in CANDIDATES:
        found = shutil.which(name)
        if found:
            return found
    raise BrowserMissingError(f"no Chromium found on PATH. {INSTALL_HINT}")


class Browser:
    """A headless Chromium that only talks to the hosts it is allowed to."""

    def __init__(
        self,
        *,
        chromium: str | None = None,
        allowed_hosts: Sequence[str] = (),
        storage_state: str | None = None,
        timeout_ms: int = 15_000,
    ) -> None:
        try:
            from playwright.sync_api import sync_playwright
        except ImportError as error:
            raise BrowserMissingError(f"Playwright is not installed. {INSTALL_HINT}") from error
        executable = find_chromium(chromium)
        self._allowed = {"127.0.0.1", "localhost", *allowed_hosts}
        self._storage_state = storage_state
        self._timeout_ms = timeout_ms
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=executable, args=list(FLAGS)
            )
        except Exception:
            self._playwright.stop()
            raise
        self.blocked: dict[str, int] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends Chromium and the Playwright driver."""
        self._browser.close()
        self._playwright.stop()

    def _guard(self, redirect: Callable[[str], str | None] | None) -> Callable[[Route], None]:
        def handle(route: Route) -> None:
            url = urlsplit(route.request.url)
            other = redirect(route.request.url) if redirect else None
            if other:
                route.fulfill(path=other)
                return
            if url.scheme in ("http", "https", "ws", "wss") and url.hostname not in self._allowed:
                host = url.hostname or "?"
                self.blocked[host] = self.blocked.get(host, 0) + 1
                route.abort()
                return
            route.continue_()

        return handle

    @contextmanager
    def page(
        self,
        viewport: tuple[int, int],
        *,
        dark: bool = False,
        mobile: bool = False,
        redirect: Callable[[str], str | None] | None = None,
        guarded: bool = True,
    ) -> Iterator[Page]:
        """A fresh page of `viewport` CSS pixels at scale factor 1.

        `redirect` may answer a URL with a local file; `guarded=False` leaves out request
        interception, for pages made by set_content that request nothing (it costs time).
        """
        context = self._browser.new_context(
            viewport={"width": viewport[0], "height": viewport[1]},
            device_scale_factor=1,
            is_mobile=mobile,
            has_touch=mobile,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-US",
            timezone_id="UTC",
            storage_state=self._storage_state,
            service_workers="block",
        )
        try:
            context.set_default_timeout(self._timeout_ms)
            if guarded:
                context.route("**/*", self._guard(redirect))
            context.add_init_script(SEED_SCRIPT)
            page = context.new_page()
            if guarded:
                page.clock.set_fixed_time(FROZEN_TIME_S)
            yield page
        finally:
            context.close()
