"""A network as a picture, in the style of printed transit maps."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from scripts.assets.maps.network import COLOURS, COLUMNS, ROWS, Cell, MapGraph

WIDTH, HEIGHT = 616, 504
"""Pixels; multiples of the 28 that Qwen2.5-VL's patches make."""
LEFT, TOP, STEP_X, STEP_Y = 40, 58, 66, 58
SCALE = 2
"""Drawn larger and shrunk, so that edges are smooth."""
NUM_COLOURS = 32
"""Of the palette."""


def draw(network: MapGraph, font: Path) -> Image.Image:
    """The map with its legend."""
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    pen = ImageDraw.Draw(image)
    for line, stations in network.lines.items():
        colour = COLOURS[line.split()[0]]
        points = [_at(network.cells[one]) for one in stations]
        pen.line(points, fill=colour, width=7 * SCALE, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse(_around(x, y, 3.5), fill=colour)
    changes = set(network.interchanges)
    for station, cell in network.cells.items():
        x, y = _at(cell)
        colour = COLOURS[network.lines_of(station)[0].split()[0]]
        edge = (20, 20, 20) if station in changes else colour
        pen.ellipse(_around(x, y, 7.5 if station in changes else 4.5), fill="white", outline=edge,
                    width=3 * SCALE)  # fmt: skip
    letters = ImageFont.truetype(str(font), 10 * SCALE)
    for station, (column, row) in network.cells.items():
        x, y = _at((column, row))
        if _is_vertical(network, station):
            side = 1 if column < COLUMNS - 1 else -1
            place, anchor = (x + side * 11 * SCALE, y), "lm" if side > 0 else "rm"
        else:
            anchor, dx = {0: ("la", -12), COLUMNS - 1: ("ra", 12)}.get(column, ("ma", 0))
            place = (x + dx * SCALE, y + (9 if (column + row) % 2 else -21) * SCALE)
        pen.text(place, station, fill=(20, 20, 20), font=letters, anchor=anchor,
                 stroke_width=2 * SCALE, stroke_fill="white")  # fmt: skip
    _legend(pen, network, ImageFont.truetype(str(font), 11 * SCALE))
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return small.quantize(NUM_COLOURS, dither=Image.Dither.NONE)


def _is_vertical(network: MapGraph, station: str) -> bool:
    """Whether lines pass a station only upwards and downwards, where names beside it are free."""
    column = network.cells[station][0]
    near = [
        other
        for line in network.lines_of(station)
        for pair in pairwise(network.lines[line])
        if station in pair
        for other in pair
    ]
    return all(network.cells[other][0] == column for other in near)


def _at(cell: Cell) -> tuple[int, int]:
    return (LEFT + STEP_X * cell[0]) * SCALE, (TOP + STEP_Y * cell[1]) * SCALE


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius * SCALE, y - radius * SCALE, x + radius * SCALE, y + radius * SCALE)


def _legend(pen: ImageDraw.ImageDraw, network: MapGraph, font: ImageFont.FreeTypeFont) -> None:
    for place, line in enumerate(network.lines):
        x, y = (12 + place * 100) * SCALE, 14 * SCALE
        pen.line((x, y, x + 20 * SCALE, y), fill=COLOURS[line.split()[0]], width=7 * SCALE)
        pen.text((x + 25 * SCALE, y), line, fill=(20, 20, 20), font=font, anchor="lm")
    assert TOP + STEP_Y * (ROWS - 1) < HEIGHT
