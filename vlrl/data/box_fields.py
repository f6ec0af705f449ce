"""Boxes of a row that name several, and how much each matters: the columns `boxes`, `salience`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vlrl.data.fields import shown
from vlrl.errors import DataError
from vlrl.geometry.boxes import Box, Frame


def boxes_on(given: Sequence[Any], frame: Frame, where: str) -> tuple[Box, ...]:
    """Boxes of xyxy numbers in the frame; DataError that names row, field and place."""
    boxes = []
    for place, edges in enumerate(given):
        box = _box(edges, frame)
        if box is None:
            raise DataError(
                f"{where}: field 'boxes', place {place}: must be [x1, y1, x2, y2] in pixels, "
                f"on the image of {frame.width} x {frame.height}, not {shown(edges)}"
            )
        boxes.append(box)
    return tuple(boxes)


def weights_for(num_boxes: int, weights: Any, where: str) -> tuple[float, ...]:
    """A weight of each box; DataError where they are not that."""
    fits = _are_numbers(weights) and num_boxes and len(weights) == num_boxes
    if not fits or min(weights) < 0 or not sum(weights) > 0:
        raise DataError(
            f"{where}: field 'salience' must hold a weight of 0 or more for each of the "
            f"{num_boxes} boxes, one of them above 0, not {shown(weights)}"
        )
    return tuple(map(float, weights))


def _box(edges: Any, frame: Frame) -> Box | None:
    """The box of four numbers; None if it is none on the image."""
    if not _are_numbers(edges) or len(edges) != 4:
        return None
    x1, y1, x2, y2 = map(float, edges)
    box = Box(x1, y1, x2, y2, frame)
    return box if box.is_valid else None


def _are_numbers(values: object) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
        for one in values
    )
