"""Synthetic pages for warm-up training: random but plausible layouts as one HTML string."""

import random
import re
from collections.abc import Callable
from pathlib import Path

from scripts.assets.screens import page_parts as parts
from vlrl.gui.capture.icons import MEANINGS
from scripts.assets.screens.page_parts import Draw
from scripts.assets.screens.page_theme import css, make_theme

_STYLE = re.compile(r'\s(?:class|width|height|id)="[^"]*"')


def load_icons(folders: list[Path], extra: int = 400) -> dict[str, list[str]]:
    """Inline SVGs by meaning from folders of NAME.svg files.

    Besides the known meanings, up to `extra` icons of plain names ("umbrella") come along,
    so that a model sees more icons than the common dozen.
    """
    by_file: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.svg")):
            svg = _STYLE.sub("", path.read_text(encoding="utf-8")).replace("\n", " ")
            # Outline sets draw with strokes; the page's style fills by default.
            if 'fill="none"' in svg and 'stroke="currentColor"' in svg:
                svg = svg.replace("<svg", '<svg style="fill:none"', 1)
            by_file.setdefault(path.stem, []).append(svg)
    if not by_file:
        raise FileNotFoundError(f"no *.svg icons in {', '.join(map(str, folders))}")
    icons: dict[str, list[str]] = {}
    for meaning, (names, _) in MEANINGS.items():
        # The first names of a meaning are its plainest icons.
        found = [svg for name in names.split() for svg in by_file.get(name, [])]
        if found:
            icons[meaning] = found[:6]
    known = {name for names, _ in MEANINGS.values() for name in names.split()}
    plain = [n for n in sorted(by_file) if re.fullmatch(r"[a-z]{3,12}", n) and n not in known]
    random.Random(0).shuffle(plain)
    for name in plain[:extra]:
        icons.setdefault(name, by_file[name])
    return icons


def _content(d: Draw, narrow: bool) -> list[Callable[[], str]]:
    return [
        lambda: parts.text(d),
        lambda: parts.buttons(d),
        lambda: parts.form(d, narrow),
        lambda: parts.items(d, narrow),
        lambda: parts.cards(d, narrow),
        lambda: parts.table(d, narrow),
        lambda: parts.choices(d),
        lambda: parts.tabs(d, narrow),
        lambda: parts.pages(d),
        lambda: parts.crumbs(d),
    ]


def _body(d: Draw, narrow: bool, count: int) -> str:
    makers = d.rng.sample(_content(d, narrow), count)
    return f'<div class="body">{"".join(make() for make in makers)}</div>'


def _mobile(d: Draw) -> str:
    rng = d.rng
    head = parts.top_bar(d, True)
    tabs = parts.tabs(d, True) if rng.random() < 0.3 else ""
    fab = ""
    if rng.random() < 0.25:
        fab = f'<button class="fab" aria-label="add">{d.icon("add")}</button>'
        d.used.add("add")
    foot = parts.foot_bar(d) if rng.random() < 0.6 else ""
    return f"{head}{tabs}{_body(d, True, rng.randint(3, 5))}{fab}{foot}"


def _web(d: Draw) -> str:
    rng = d.rng
    head = parts.top_bar(d, False)
    side = parts.side_bar(d) if rng.random() < 0.5 else ""
    body = _body(d, bool(side), rng.randint(3, 5))
    if rng.random() < 0.2:
        side, body = body, side
    return f'{head}<div class="main">{side}{body}</div>'


def _desktop(d: Draw) -> str:
    rng = d.rng
    bars = parts.menu_bar(d) + parts.tool_bar(d)
    if rng.random() < 0.4:
        bars += parts.tool_bar(d)
    rail = parts.icon_rail(d) if rng.random() < 0.5 else ""
    side = parts.side_bar(d) if rng.random() < 0.5 else ""
    tabs = parts.tabs(d, bool(side)) if rng.random() < 0.5 else ""
    body = _body(d, bool(side), rng.randint(2, 4))
    inner = f'<div style="flex:1;display:flex;flex-direction:column;min-width:0">{tabs}{body}</div>'
    return f'{bars}<div class="main">{rail}{side}{inner}</div>'


def make_page(seed: str, platform: str, icons: dict[str, list[str]]) -> str:
    """One HTML page for 'mobile', 'web' or 'desktop'; the same seed gives the same page."""
    rng = random.Random(seed)
    d = Draw(rng, icons)
    style = css(make_theme(rng), rng)
    inner = {"mobile": _mobile, "web": _web, "desktop": _desktop}[platform](d)
    over = rng.random()
    if over < 0.1:
        inner += parts.dialog(d, platform == "mobile")
    elif over < 0.2 or (platform == "desktop" and over < 0.4):
        inner += parts.menu(d, rng.randint(4, 110), rng.randint(26, 110))
    return f"<!doctype html><html><head><style>{style}</style></head><body>{inner}</body></html>"
