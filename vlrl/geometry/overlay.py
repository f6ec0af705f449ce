"""Boxes and clicks drawn on an image; a pure function from an image to an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlrl.geometry.boxes import Box, Frame, Point

if TYPE_CHECKING:
    from PIL.Image import Image

TRUE_COLOUR = "#12a150"
ANSWER_COLOURS = ("#1f6feb", "#d1242f", "#bf8700", "#8250df")


@dataclass(frozen=True)
class Mark:
    """One answer on the image: a box, or only a click."""

    box: Box | None
    click: Point | None


def overlay(image: Image, true: Box | None, answers: Sequence[Mark]) -> Image:
    """A copy of `image` with the true box, if any, in green and each answer in its own colour."""
    from PIL import ImageDraw

    canvas = image.convert("RGB").copy()
    draw = ImageDraw.Draw(canvas)
    pixels = Frame(*canvas.size)
    scale = max(1, round(max(canvas.size) / 600))
    if true is not None:
        draw.rectangle(true.to(pixels).xyxy, outline=TRUE_COLOUR, width=2 * scale)
    for number, mark in enumerate(answers):
        colour = ANSWER_COLOURS[number % len(ANSWER_COLOURS)]
        if mark.box is not None and mark.box.is_valid:
            x1, y1, x2, y2 = mark.box.to(pixels).xyxy
            # A box half off the image is cut to it, so that the drawing does not fail.
            x1, x2 = max(0.0, x1), min(pixels.width - 1, x2)
            y1, y2 = max(0.0, y1), min(pixels.height - 1, y2)
            if x1 < x2 and y1 < y2:
                draw.rectangle((x1, y1, x2, y2), outline=colour, width=scale)
        if mark.click is not None:
            x, y = mark.click.to(pixels).x, mark.click.to(pixels).y
            if abs(x) < 1e5 and abs(y) < 1e5:
                r = 3 * scale
                draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline="white")
    return canvas
