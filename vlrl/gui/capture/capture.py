"""Pages to screens: load, hold still, scroll, read the elements, take the screenshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vlrl.gui.capture.browser import STILL_CSS
from vlrl.gui.capture.colours import Pixels, is_blank
from vlrl.gui.capture.extract import ExtractOptions, merge_twins, read_page, to_element
from vlrl.gui.capture.instructions import Instruction, ScreenInstructions
from vlrl.gui.capture.records import Element
from vlrl.media.images import open_image

if TYPE_CHECKING:
    from playwright.sync_api import Page

CAPTURE_TRIES = 3


@dataclass
class Shot:
    """One image with its elements and instructions; `scroll` in pixels from the top."""

    image: Image.Image
    elements: list[Element]
    instructions: list[Instruction]
    scroll: int
    height: int
    dropped: Counter[str] = field(default_factory=Counter)


def load(page: Page, url: str, *, settle_ms: int = 250, wait_for: str = "") -> bool:
    """Opens a URL, waits until it has settled; False if it did not return a page."""
    answer = page.goto(url, wait_until="load")
    if answer is not None and not answer.ok:
        return False
    if wait_for:
        page.wait_for_selector(wait_for)
    page.add_style_tag(content=STILL_CSS)
    page.evaluate("() => document.fonts ? document.fonts.ready.then(() => true) : true")
    page.wait_for_timeout(settle_ms)
    return True


def viewport_of(page: Page) -> tuple[int, int]:
    """Width and height of the page's viewport in pixels."""
    size = page.viewport_size
    assert size is not None, "pages are opened with a fixed viewport"
    return size["width"], size["height"]


def scroll_to(page: Page, offset: int) -> int:
    """Scrolls the page, or its largest scrolling pane, and returns the offset (px)."""
    script = """(y) => {
      const root = document.scrollingElement || document.documentElement;
      let best = root;
      if (root.scrollHeight - window.innerHeight < 40) {
        let area = 0;
        for (const el of document.querySelectorAll("main, div, section, article")) {
          if (el.scrollHeight - el.clientHeight < 60) continue;
          const flow = getComputedStyle(el).overflowY;
          if (flow !== "auto" && flow !== "scroll") continue;
          const size = el.clientWidth * el.clientHeight;
          if (size > area && el.clientHeight > window.innerHeight * 0.4) { area = size; best = el; }
        }
      }
      best.scrollTop = y;
      return [best.scrollTop, best.scrollHeight];
    }"""
    top, _ = page.evaluate(script, offset)
    return round(top)


def screenshot(page: Page) -> Image.Image:
    """The viewport as an RGB image, one image pixel per CSS pixel.

    On a busy machine Chromium sometimes says that it is unable to capture: tried again.
    """
    from playwright.sync_api import Error

    for attempt in range(CAPTURE_TRIES):
        try:
            data = page.screenshot(type="png", animations="allow")
            break
        except Error as error:
            if attempt + 1 == CAPTURE_TRIES or "Unable to capture" not in str(error):
                raise
            page.wait_for_timeout(200)
    return open_image(data)


def shoot(page: Page, seed: str, options: ExtractOptions, *, scroll: int = 0) -> Shot:
    """Reads the page and takes a screenshot of it in its current state."""
    raw = read_page(page)
    image = screenshot(page)
    return make_shot(raw, image, seed, options, scroll=scroll)


def make_shot(
    raw: dict[str, Any],
    image: Image.Image,
    seed: str,
    options: ExtractOptions,
    *,
    scroll: int = 0,
    offset: tuple[int, int] = (0, 0),
) -> Shot:
    """Filters and instructions for an image whose corner is at `offset` px of the viewport."""
    size = image.size
    dropped: Counter[str] = Counter()
    elements: list[Element] = []
    for record in raw["elements"]:
        moved = _shift(record, offset, size)
        if moved is None:
            continue
        if moved["fraction"] <= 0.15 or not (moved["hits"]["centre"] or moved["hits"]["others"]):
            dropped["not visible"] += 1
            continue
        element = to_element(moved, size, options)
        if element.box[2] > element.box[0] and element.box[3] > element.box[1]:
            elements.append(element)
    merged = merge_twins(elements, options)
    pixels: Pixels = np.asarray(image, dtype=np.uint8)
    refuse_blank(merged, pixels)
    dropped["same place as another"] += len(elements) - len(merged)
    for element in merged:
        if element.dropped:
            dropped[element.dropped] += 1
    maker = ScreenInstructions(merged, pixels, size, seed)
    instructions = maker.build()
    return Shot(image, merged, instructions, scroll, round(raw["height"]), dropped + maker.dropped)


def refuse_blank(elements: list[Element], pixels: Pixels) -> None:
    """Drops icons of which the image shows nothing."""
    for element in elements:
        if element.element_type == "icon" and not element.dropped:
            element.dropped = "nothing to see" if is_blank(pixels, element.box) else ""


def _shift(
    record: dict[str, Any], offset: tuple[int, int], size: tuple[int, int]
) -> dict[str, Any] | None:
    """A raw record in the coordinates of a crop; None if it lies outside the crop."""
    if offset == (0, 0) and record["box"][2] <= size[0] and record["box"][3] <= size[1]:
        return record
    dx, dy = offset
    x1, y1, x2, y2 = record["box"]
    area = max((x2 - x1) * (y2 - y1), 1e-6)
    box = [max(x1 - dx, 0), max(y1 - dy, 0), min(x2 - dx, size[0]), min(y2 - dy, size[1])]
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    share = (box[2] - box[0]) * (box[3] - box[1]) / area
    moved = {**record, "box": box, "fraction": record["fraction"] * share}
    # A crop keeps only whole elements: half a button at the edge is not a target.
    if share < 0.999:
        moved["fraction"] = min(moved["fraction"], 0.5)
    group = record["group"]
    if group:
        g = group["box"]
        inner = [g[0] - dx, g[1] - dy, g[2] - dx, g[3] - dy]
        whole = min(inner[:2]) >= 0 and inner[2] <= size[0] and inner[3] <= size[1]
        # Nobody can count the items of a list that the crop cuts.
        moved["group"] = {**group, "box": inner} if whole else None
    return moved


def shots_of_page(
    page: Page, seed: str, options: ExtractOptions, *, scrolls: int = 1
) -> Iterator[Shot]:
    """The screens of the loaded page at up to `scrolls` scroll positions."""
    _, height = viewport_of(page)
    seen: set[int] = set()
    for target in (int(i * height * 0.85) for i in range(max(scrolls, 1))):
        at = scroll_to(page, target)
        if at in seen:
            break
        seen.add(at)
        yield shoot(page, f"{seed}/{at}", options, scroll=at)
