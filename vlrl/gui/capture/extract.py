"""Elements of a rendered page: raw facts from extract.js, then the filters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vlrl.gui.capture.icons import canonical, icon_meaning
from vlrl.gui.capture.names import clean_name, name_key, refuse_name
from vlrl.gui.capture.records import Box, Element, Group

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Elements read from one page at most; a page with more is a table dump.
ELEMENT_LIMIT = 600


@dataclass(frozen=True)
class ExtractOptions:
    """Filters; sides in pixels, the rest are shares."""

    min_side: int = 12
    max_area: float = 0.25
    min_visible: float = 0.6
    min_iou: float = 0.85


@cache
def _script() -> str:
    return files("vlrl.gui.capture").joinpath("extract.js").read_text(encoding="utf-8")


def read_page(page: Page) -> dict[str, Any]:
    """Runs extract.js in a Playwright page: elements, scroll offset and page height (px)."""
    result: dict[str, Any] = page.evaluate(_script(), {"limit": ELEMENT_LIMIT})
    return result


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two xyxy boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / area


def _box(raw: list[float], size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = (round(value) for value in raw)
    return max(x1, 0), max(y1, 0), min(x2, size[0]), min(y2, size[1])


def _group(raw: dict[str, Any] | None, size: tuple[int, int]) -> Group | None:
    if raw is None:
        return None
    return Group(raw["id"], raw["kind"], _box(raw["box"], size), raw["before"], raw["after"])


def _refuse(raw: dict[str, Any], box: Box, size: tuple[int, int], options: ExtractOptions) -> str:
    """Why an element's place or state rules it out as a target ('' = it does not)."""
    width, height = box[2] - box[0], box[3] - box[1]
    if raw["fraction"] < options.min_visible:
        return "cut off"
    if width < options.min_side or height < options.min_side:
        return "tiny"
    if width * height > options.max_area * size[0] * size[1]:
        return "huge"
    if raw["wrapped"]:
        return "wrapped over lines"
    hits = raw["hits"]
    if not hits["centre"] or hits["others"] < 3:
        return "occluded"
    # A card whose middle is another control: a click there would reach the inner one.
    if hits["inner"]:
        return "holds another control"
    if raw["disabled"]:
        return "disabled"
    return ""


def _named(raw: dict[str, Any]) -> tuple[str, str, str]:
    """Name, element type and reason to refuse the name."""
    text, name = clean_name(raw["text"]), clean_name(raw["name"])
    if raw["input"]:
        return name, "input", refuse_name(name)
    if raw["text"]:
        # Visible text beats a hidden accessible name, which no reader can see.
        if name_key(text) and not refuse_name(text):
            return text, "text", ""
        if name and raw["source"] != "text":
            return name, "icon", refuse_name(name)
        return text or name, "text", refuse_name(text or name)
    meaning = icon_meaning(raw["icons"])
    if not name or refuse_name(name):
        name = meaning
    # The name of the person on an avatar cannot be seen in it.
    if raw["source"] in ("image", "hidden text") and not canonical(name, []):
        return meaning or name, "icon", "" if meaning else "name of a picture"
    return name, "icon", refuse_name(name)


def to_element(raw: dict[str, Any], size: tuple[int, int], options: ExtractOptions) -> Element:
    """One raw record of extract.js as an Element, with `dropped` set by the filters."""
    box = _box(raw["box"], size)
    name, element_type, bad_name = _named(raw)
    return Element(
        box=box,
        role=raw["role"],
        name=name,
        text=clean_name(raw["text"]),
        element_type=element_type,
        source=raw["source"],
        icons=list(raw["icons"]),
        picture=raw["picture"],
        row=clean_name(raw["row"]),
        group=_group(raw["group"], size),
        text_colour=raw["colours"]["icon" if element_type == "icon" else "text"],
        fill_colour=raw["colours"]["fill"],
        disabled=raw["disabled"],
        dropped=_refuse(raw, box, size, options) or bad_name,
    )


def _better(a: Element, b: Element) -> bool:
    """Whether `a` is the one to keep of two elements in one place."""

    def rank(e: Element) -> tuple[bool, bool, int]:
        return not e.dropped, e.element_type != "icon", len(e.name)

    return rank(a) > rank(b)


def merge_twins(elements: list[Element], options: ExtractOptions) -> list[Element]:
    """Keeps one of the elements that share a place (a list item and its only link)."""
    kept: list[Element] = []
    for element in elements:
        twin = next(
            (i for i, k in enumerate(kept) if iou(k.box, element.box) > options.min_iou), -1
        )
        if twin < 0:
            kept.append(element)
        elif _better(element, kept[twin]):
            kept[twin] = element
    return kept
