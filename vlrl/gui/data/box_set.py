"""Several true boxes of a row, and how much each matters: the columns `boxes` and `salience`."""

from __future__ import annotations

from vlrl.data.box_fields import boxes_on, weights_for
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
    boxes = boxes_on(given, frame, row.where)
    return boxes, () if weights is None else weights_for(len(boxes), weights, row.where)
