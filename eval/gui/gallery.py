"""The items that two runs answer differently, as one self-contained page with images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from vlrl.eval.gui.compare import Comparison
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.geometry.overlay import Mark, overlay
from vlrl.gui.verdict import polygon_of
from vlrl.log.report.style import STYLE

MAX_SIDE_PX = 960
MAX_CARDS = 60
FIRST_COLOUR, SECOND_COLOUR, TRUE_COLOUR = "#1f6feb", "#d1242f", "#12a150"


def write_gallery(result: Comparison, path: Path) -> None:
    """Write the page; images that are not on this machine are drawn as an empty screen."""
    a, b = result.rates
    sections = [
        f"<h1>{escape(result.first)} &rarr; {escape(result.second)}</h1>",
        '<p class="note">Paired by item; the bracket is a 95 % bootstrap interval.</p>',
        '<div class="tiles">',
        _tile("accuracy", f"{100 * a:.1f} % &rarr; {100 * b:.1f} %", f"{result.num_items} items"),
        _tile(
            "change",
            f"{100 * result.change:+.1f} points",
            f"[{100 * result.low:+.1f}, {100 * result.high:+.1f}]",
        ),
        _tile(
            "changed items",
            f"{len(result.gained)} gained, {len(result.lost)} lost",
            f"McNemar p = {result.p_value:.3g}",
        ),
        '</div><p class="note key">',
        *(
            f'<i style="border-color:{colour}"></i>{name}'
            for colour, name in (
                (TRUE_COLOUR, "target"),
                (FIRST_COLOUR, "first run"),
                (SECOND_COLOUR, "second run"),
            )
        ),
        "</p>",
    ]
    for title, pairs in (("Gained", result.gained), ("Lost", result.lost)):
        shown = pairs[: MAX_CARDS // 2]
        if not pairs:
            continue
        count = f"{len(pairs)}" if len(shown) == len(pairs) else f"{len(shown)} of {len(pairs)}"
        cards = "".join(_card(first, second) for first, second in shown)
        sections.append(f'<h2>{title} ({count})</h2><div class="pairs">{cards}</div>')
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>vlrl compare</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>"
    )
    path.write_text(page, encoding="utf-8")


def _tile(name: str, figure: str, note: str) -> str:
    return f'<div class="tile"><span>{name}</span><b>{figure}</b><span>{note}</span></div>'


def _card(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{name}</td><td><code>{escape(str(row['output'])[-160:])}</code></td>"
        f"<td>{escape(row['reason'])}</td></tr>"
        for name, row in (("first", first), ("second", second))
    )
    return (
        f'<div class="pair"><p><b>{escape(first["instruction"])}</b><br>'
        f"<code>{escape(first['id'])}</code></p>{_image(first, second)}"
        f"<table>{rows}</table></div>"
    )


def _image(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    frame = Frame(*first["image_size"])
    shrink = min(1.0, MAX_SIDE_PX / max(frame.extent))
    size = (max(1, round(frame.width * shrink)), max(1, round(frame.height * shrink)))
    try:
        with Image.open(first["image"]) as opened:
            image = opened.convert("RGB").resize(size)
    except OSError:
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
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(first["instruction"])}" src="data:image/webp;base64,{data}">'


def _mark(row: Mapping[str, Any], frame: Frame) -> Mark:
    box, click = row["box_px"], row["click_px"]
    return Mark(
        None if box is None else _box(box, frame),
        None if click is None else Point(click[0], click[1], frame),
    )


def _box(values: Sequence[float], frame: Frame) -> Box:
    x1, y1, x2, y2 = values
    return Box(x1, y1, x2, y2, frame)
