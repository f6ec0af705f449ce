"""Boxes that a reward may take for the true one, and whose clicks miss it."""

from __future__ import annotations

from vlrl.geometry.boxes import Box

LEAST_PX = 3.0
"""Of the image, from the edge of the true box to a click beside it: rounding must not undo it."""
LEAST_SHARE = 0.004
"""The same relative to the image: four steps of a frame of a thousand."""
TIMES_LARGER = 3.0


def near_misses(true: Box) -> dict[str, Box]:
    """By kind, in the true box's frame; kinds for which the image has no room are left out.

    beside: as large as the true box, its centre just outside of it, where there is most room.
    around: three times as wide and high, with the true box in one of its corners. everything: the
    whole image, unless its centre is a hit. far: as large, in the corner that is farthest. swapped:
    x and y exchanged. band: where none of these fits, the largest part of the image beside it.
    """
    x1, y1, x2, y2 = true.xyxy
    candidates = {
        "beside": _beside(true),
        "around": _around(true),
        "everything": Box(0.0, 0.0, true.frame.width, true.frame.height, true.frame),
        "far": _far(true),
        "swapped": Box(y1, x1, y2, x2, true.frame),
    }
    found = {
        kind: box
        for kind, box in candidates.items()
        if box is not None and box.is_valid and _is_inside_image(box) and _misses(box, true)
    }
    band = _band(true)
    return found or ({"band": band} if band.is_valid and _misses(band, true) else {})


def _margins(box: Box) -> tuple[float, float]:
    width, height = box.frame.extent
    return max(LEAST_PX, LEAST_SHARE * width), max(LEAST_PX, LEAST_SHARE * height)


def _misses(box: Box, true: Box) -> bool:
    """Whether the centre is outside of the true box by more than rounding."""
    x, y = box.centre.x, box.centre.y
    dx, dy = _margins(true)
    return _is_beyond(x, true.x1, true.x2, dx) or _is_beyond(y, true.y1, true.y2, dy)


def _is_beyond(value: float, low: float, high: float, margin: float) -> bool:
    return value <= low - margin or value >= high + margin


def _is_inside_image(box: Box) -> bool:
    width, height = box.frame.extent
    return box.x1 >= 0 and box.y1 >= 0 and box.x2 <= width and box.y2 <= height


def _beside(true: Box) -> Box | None:
    """Moved by half its side and a margin, right, left, down or up; the first with room."""
    width, height = true.x2 - true.x1, true.y2 - true.y1
    dx, dy = _margins(true)
    along_x, along_y = width / 2 + dx, height / 2 + dy
    shifts = sorted(
        [(along_x, 0.0), (-along_x, 0.0), (0.0, along_y), (0.0, -along_y)],
        key=lambda shift: abs(shift[0]) + abs(shift[1]),
    )
    moved = [_shifted(true, *shift) for shift in shifts]
    return next((box for box in moved if _is_inside_image(box)), None)


def _band(true: Box) -> Box:
    """From the true box to one edge of the image, over its whole other side."""
    width, height = true.frame.width, true.frame.height
    bands = [
        Box(0.0, 0.0, true.x1, height, true.frame),
        Box(true.x2, 0.0, width, height, true.frame),
        Box(0.0, 0.0, width, true.y1, true.frame),
        Box(0.0, true.y2, width, height, true.frame),
    ]
    return max(bands, key=lambda box: (box.x2 - box.x1) * (box.y2 - box.y1))


def _around(true: Box) -> Box | None:
    width, height = (true.x2 - true.x1) * TIMES_LARGER, (true.y2 - true.y1) * TIMES_LARGER
    corners = [
        Box(x, y, x + width, y + height, true.frame)
        for x in (true.x1, true.x2 - width)
        for y in (true.y1, true.y2 - height)
    ]
    return next((box for box in corners if _is_inside_image(box)), None)


def _far(true: Box) -> Box:
    frame = true.frame
    x = 0.0 if true.centre.x > frame.width / 2 else frame.width - (true.x2 - true.x1)
    y = 0.0 if true.centre.y > frame.height / 2 else frame.height - (true.y2 - true.y1)
    return _shifted(true, x - true.x1, y - true.y1)


def _shifted(box: Box, x: float, y: float) -> Box:
    return Box(box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y, box.frame)
