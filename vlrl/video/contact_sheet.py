"""A video on one image: frames with true and answered boxes, and a timeline bar for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlrl.geometry.boxes import Box, Frame
from vlrl.geometry.overlay import ANSWER_COLOURS, TRUE_COLOUR

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

THOUGHT = "#c9cdd2"
MAX_COLUMNS = 12
LEAST_WIDTH_PX = 112
GAP_PX = 2
BAR_PX = 8


@dataclass(frozen=True)
class Strip:
    """A tube as drawn: which of the shown frames it covers, and its boxes there."""

    inside: tuple[bool, ...]
    """One entry per shown frame."""
    boxes: Mapping[int, tuple[float, float, float, float]]
    """By index among the shown frames."""
    dotted: bool = False
    """Thin and grey: boxes of the thinking."""


def shown(num: int) -> list[int]:
    """Which of `num` sampled frames fit on the sheet, spread evenly, first and last included."""
    if num <= MAX_COLUMNS:
        return list(range(num))
    return [round(k * (num - 1) / (MAX_COLUMNS - 1)) for k in range(MAX_COLUMNS)]


def contact_sheet(
    frames: np.ndarray, frame: Frame, true: Strip | None, answers: Sequence[Strip]
) -> Image:
    """Frames side by side, the true tube in green, each answer in its own colour.

    frames: uint8 [n, H, W, 3]; frame: the coordinates of all boxes. Below the frames is one
    bar per tube, filled where it covers the frame.
    """
    from PIL import Image, ImageDraw

    scale = max(1, -(-LEAST_WIDTH_PX // frames.shape[2]))
    height, width = frames.shape[1] * scale, frames.shape[2] * scale
    strips = [(true, TRUE_COLOUR)] if true is not None else []
    colours = iter(ANSWER_COLOURS * len(answers))
    strips += [(strip, THOUGHT if strip.dotted else next(colours)) for strip in answers]
    bars = [(strip, colour) for strip, colour in strips if not strip.dotted]
    sheet = Image.new(
        "RGB",
        (len(frames) * (width + GAP_PX) - GAP_PX, height + len(bars) * (BAR_PX + GAP_PX)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    pixels = Frame(width, height)
    for place, pixel_values in enumerate(frames):
        left = place * (width + GAP_PX)
        image = Image.fromarray(pixel_values)
        if scale > 1:
            image = image.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(image, (left, 0))
        for strip, colour in strips:
            if place in strip.boxes:
                box = Box(*strip.boxes[place], frame).to(pixels)
                _rectangle(draw, box, left, pixels, colour, strip)
    for number, (strip, colour) in enumerate(bars):
        top = height + GAP_PX + number * (BAR_PX + GAP_PX)
        for place, inside in enumerate(strip.inside):
            left = place * (width + GAP_PX)
            fill = colour if inside else "#e6e8eb"
            draw.rectangle((left, top, left + width - 1, top + BAR_PX - 1), fill=fill)
    return sheet


def _rectangle(
    draw: ImageDraw, box: Box, left: int, pixels: Frame, colour: str, strip: Strip
) -> None:
    """A box cut to its frame, so that it does not run into the next one."""
    if not box.is_valid:
        return
    x1, y1 = max(0.0, box.x1), max(0.0, box.y1)
    x2, y2 = min(pixels.width - 1, box.x2 - 1), min(pixels.height - 1, box.y2 - 1)
    if x1 < x2 and y1 < y2:
        width = 1 if strip.dotted else 2
        draw.rectangle((left + x1, y1, left + x2, y2), outline=colour, width=width)


def strip_of(
    natives: Sequence[int],
    span: tuple[int, int],
    boxes: Mapping[int, tuple[float, float, float, float]],
) -> Strip:
    """What to draw of a span and its boxes on some native frames."""
    inside = tuple(span[0] <= frame <= span[1] for frame in natives)
    held = {
        place: boxes[frame]
        for place, frame in enumerate(natives)
        if inside[place] and frame in boxes
    }
    return Strip(inside, held)
