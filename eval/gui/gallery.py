"""The items that two runs answer differently, as one self-contained page with images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vlrl.errors import DataError
from vlrl.eval.gui.compare import Comparison
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.geometry.overlay import ANSWER_COLOURS, TRUE_COLOUR, Mark, overlay
from vlrl.gui.verdict import polygon_of
from vlrl.log.report.page import render
from vlrl.media.images import open_image

MAX_SIDE_PX = 960
MAX_CARDS = 60
FIRST, SECOND = ANSWER_COLOURS[:2]


def write_gallery(result: Comparison, path: Path) -> None:
    """Write the page; images that are not on this machine are drawn as an empty screen."""
    a, b = result.rates
    tiles = (
        ("accuracy", f"{100 * a:.1f} % \u2192 {100 * b:.1f} %", f"{result.num_items} items"),
        (
            "change",
            f"{100 * result.change:+.1f} points",
            f"[{100 * result.low:+.1f}, {100 * result.high:+.1f}]",
        ),
        (
            "changed items",
            f"{len(result.gained)} gained, {len(result.lost)} lost",
            f"McNemar p = {result.p_value:.3g}",
        ),
    )
    colours = ((TRUE_COLOUR, "target"), (FIRST, "first run"), (SECOND, "second run"))
    sections = []
    for title, pairs in (("Gained", result.gained), ("Lost", result.lost)):
        shown = pairs[: MAX_CARDS // 2]
        if pairs:
            of_all = "" if len(shown) == len(pairs) else f" of {len(pairs)}"
            cards = [_card(first, second) for first, second in shown]
            sections.append((f"{title} ({len(shown)}{of_all})", cards))
    page = render(
        "gallery.html.j2",
        Path(__file__).parent,
        title="vlrl compare",
        first=result.first,
        second=result.second,
        tiles=tiles,
        colours=colours,
        sections=sections,
    )
    path.write_text(page, encoding="utf-8")


def _card(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        (name, str(row["output"])[-160:], row["reason"])
        for name, row in (("first", first), ("second", second))
    ]
    return {"item": first, "image": _image(first, second), "rows": rows}


def _image(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    frame = Frame(*first["image_size"])
    shrink = min(1.0, MAX_SIDE_PX / max(frame.extent))
    size = (max(1, round(frame.width * shrink)), max(1, round(frame.height * shrink)))
    try:
        image = open_image(first["image"]).resize(size)
    except DataError:
        image = Image.new("RGB", size, "#eef1f4")
    target = first["target"]
    true: Box | None = None
    if "box_px" in target:
        true = _box(target["box_px"], frame)
    elif "polygon_px" in target:
        true = polygon_of(target["polygon_px"], frame).box
    marked = overlay(image, true, [_mark(row, frame) for row in (first, second)])
    buffer = io.BytesIO()
    marked.save(buffer, format="WEBP", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _mark(row: Mapping[str, Any], frame: Frame) -> Mark:
    box, click = row["box_px"], row["click_px"]
    return Mark(
        None if box is None else _box(box, frame),
        None if click is None else Point(click[0], click[1], frame),
    )


def _box(values: Sequence[float], frame: Frame) -> Box:
    x1, y1, x2, y2 = values
    return Box(x1, y1, x2, y2, frame)
