"""A chart of vlrl's reports as a picture of its own, for pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vlrl.log.report.charts import COLOURS, HEIGHT, WIDTH, Series, line_chart

PER_ROW, ROW_PX = 3, 16


def write_chart(path: Path, series: Mapping[str, Series], along: str, *, smooth: bool) -> None:
    """Write an SVG file with a legend under the chart. along: name and unit of both axes."""
    page = str(line_chart("", series, along=along, smooth=smooth))
    inside = page[page.index("<svg") : page.index("</svg>")].partition(">")[2]
    legend = []
    for number, name in enumerate(series):
        row, column = divmod(number, PER_ROW)
        x, y = 20 + column * (WIDTH - 20) // PER_ROW, HEIGHT + 12 + row * ROW_PX
        colour = COLOURS[number % len(COLOURS)]
        legend.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        legend.append(f'<text x="{x + 14}" y="{y}">{name}</text>')
    height = HEIGHT + 8 + ROW_PX * -(-len(series) // PER_ROW)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11"><style>.grid{stroke:#d8dee4}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{inside}{"".join(legend)}</svg>\n',
        encoding="utf-8",
    )
