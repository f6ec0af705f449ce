"""Line charts as inline SVG: no script, no network, readable in a light and in a dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from vlrl.log.report.page import render

WIDTH, HEIGHT = 460, 210
LEAST_LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 28
CHARACTER_PX = 6.6
"""Width of a digit of a label."""
COLOURS = ("#1f6feb", "#d1242f", "#12a150", "#bf8700", "#8250df", "#0a7ea4")

Series = Sequence[tuple[float, float]]


def line_chart(
    title: str,
    series: Mapping[str, Series],
    unit: str = "",
    *,
    smooth: bool = True,
    marks: Sequence[tuple[float, str]] = (),
    along: str = "step",
) -> Markup:
    """One chart of some series of (step, value); values that are not finite are left out.

    Each series is drawn faintly unsmoothed and boldly as a running mean, since rewards are noisy;
    without `smooth` unsmoothed only, with a dot at every point. marks: steps at which a dashed
    line stands, with its label. along: what the values run along.
    """
    clean = {
        name: [(x, y) for x, y in points if y is not None and math.isfinite(y)]
        for name, points in series.items()
    }
    clean = {name: points for name, points in clean.items() if points}
    if not clean:
        return Markup()
    xs = [x for points in clean.values() for x, _ in points]
    ys = [y for points in clean.values() for _, y in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    ticks = axis_ticks(min(ys), max(ys))
    labels = tick_labels(ticks)
    left = max(LEAST_LEFT, round(8 + CHARACTER_PX * max(map(len, labels))))
    y_low, y_high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        u = left + (x - x_low) / (x_high - x_low) * (WIDTH - left - RIGHT)
        v = TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(u, 1), round(v, 1)

    paths = []
    for number, points in enumerate(clean.values()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(*p) for p in points]
        if smooth and len(points) > 4:
            paths.append((placed, colour, 1, 0.3))
            placed = [place(*p) for p in running_mean(points)]
        paths.append((placed, colour, 2, 1.0))
        if not smooth:
            paths += [([point], colour, 2, 1.0) for point in placed]
    ends = ((x_low, "start"), (x_high, "end"))
    steps = [(place(x, y_low)[0], f"{x:g}", anchor) for x, anchor in ends]
    return render(
        "chart.html.j2",
        label=f"{title} ({unit})" if unit else title,
        width=WIDTH,
        height=HEIGHT,
        left=left,
        right=WIDTH - RIGHT,
        ticks=[(place(x_low, tick)[1], text) for tick, text in zip(ticks, labels, strict=True)],
        steps=[*steps, ((left + WIDTH - RIGHT) / 2, along, "middle")],
        paths=paths,
        marks=[(place(x, y_low)[0], text) for x, text in marks if x_low < x < x_high],
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        legend=[(COLOURS[i % len(COLOURS)], name) for i, name in enumerate(clean)],
    )


def running_mean(points: Series, window: int = 9) -> list[tuple[float, float]]:
    """Mean over up to `window` neighbours, fewer at the ends."""
    half = window // 2
    result = []
    for i, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, i - half) : i + half + 1]]
        result.append((x, sum(near) / len(near)))
    return result


def axis_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that span low..high, at least two."""
    # A span near the resolution of its numbers would give several ticks at the same one.
    if high - low < max(1e-12, 1e-9 * max(abs(low), abs(high))):
        pad = max(abs(low) * 0.1, 1e-3)
        low, high = low - pad, high + pad
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Four digits, or as many as make every label another one."""
    for digits in range(4, 16):
        labels = [f"{tick:.{digits}g}" for tick in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels
