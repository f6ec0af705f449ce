"""Scatter charts as inline SVG, in the style of a run's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from vlrl.log.report.charts import COLOURS, HEIGHT, RIGHT, WIDTH, axis_ticks, tick_labels
from vlrl.log.report.page import render
from vlrl.stats import evenly

FOLDER = Path(__file__).parent
MAX_POINTS = 1500
LEFT, TOP, BOTTOM = 58, 28, 40
SOFT = "#8b949e"

Points = Sequence[tuple[float, float]]


def scatter(title: str, series: Mapping[str, Points], x_name: str, y_name: str) -> Markup:
    """Points of some series; the first one is drawn in grey below the others.

    Values that are not finite are left out, and of very many points an even selection is drawn.
    """
    clean = {
        name: evenly([p for p in points if all(map(math.isfinite, p))], MAX_POINTS)
        for name, points in series.items()
    }
    clean = {name: points for name, points in clean.items() if points}
    if not clean:
        return Markup()
    every = [point for points in clean.values() for point in points]
    xs, ys = (axis_ticks(min(c), max(c)) for c in zip(*every, strict=True))

    def place(x: float, y: float) -> tuple[float, float]:
        u = LEFT + (x - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)
        v = TOP + (ys[-1] - y) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)
        return round(u, 1), round(v, 1)

    colours = [SOFT, *COLOURS[1:], COLOURS[0]]
    shown = [
        (name, colours[i % len(colours)], sorted({place(*p) for p in points}))
        for i, (name, points) in enumerate(clean.items())
    ]
    return render(
        "scatter.html.j2",
        FOLDER,
        label=title,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        middle=(LEFT + WIDTH - RIGHT) / 2,
        x_name=x_name,
        y_name=y_name,
        rows=[(place(xs[0], t)[1], text) for t, text in zip(ys, tick_labels(ys), strict=True)],
        columns=[(place(t, ys[0])[0], text) for t, text in zip(xs, tick_labels(xs), strict=True)],
        series=shown,
    )


def shade(value: float, *, low: float, high: float) -> str:
    """Style of a table cell: the closer to `high` the stronger its colour; none for nan."""
    if not math.isfinite(value) or high <= low:
        return ""
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return f"background:rgba(31,111,235,{0.55 * share:.2f})"
