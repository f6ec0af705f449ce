"""Several true boxes of a row, and how much each matters: the columns `boxes` and `salience`."""

from __future__ import annotations

import math
from typing import Any

from vlrl.data.fields import shown
from vlrl.errors import DataError
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.data.rows import GroundingRow


def box_set(row: GroundingRow) -> tuple[tuple[Box, ...], tuple[float, ...]]:
    """All true boxes, xyxy in pixels of the original image, and weights; none where none are said.

    Raises DataError that names the row and the field.
    """
    frame = Frame(row.width_px, row.height_px)
    given, weights = row.fields.get("boxes"), row.fields.get("salience")
    if given is None:
        if weights is not None:
            raise DataError(f"{row.where}: field 'salience' needs field 'boxes', which it weighs")
        return (), ()
    if not isinstance(given, list | tuple) or not given:
        raise DataError(f"{row.where}: field 'boxes' must be a list of boxes, not {shown(given)}")
    boxes = []
    for place, edges in enumerate(given):
        box = _box(edges, frame)
        if box is None:
            raise DataError(
                f"{row.where}: field 'boxes', place {place}: must be [x1, y1, x2, y2] in pixels, "
                f"on the image of {row.width_px} x {row.height_px}, not {shown(edges)}"
            )
        boxes.append(box)
    if weights is None:
        return tuple(boxes), ()
    fits = _are_numbers(weights) and len(weights) == len(boxes)
    if not fits or min(weights) < 0 or not sum(weights) > 0:
        raise DataError(
            f"{row.where}: field 'salience' must hold a weight of 0 or more for each of the "
            f"{len(boxes)} boxes, one of them above 0, not {shown(weights)}"
        )
    return tuple(boxes), tuple(map(float, weights))


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
