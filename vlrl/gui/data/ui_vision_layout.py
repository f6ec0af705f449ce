"""UI-Vision layout grounding: a described region of a screen, xyxy in pixels."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; the instruction is the region's name with its explanation.

    Source: UI-Vision's layout grounding file.
    """
    number = where.rpartition(" ")[2]
    name = field_of(row, "name", where)
    explanation = row.get("explanation")
    text = f"{name}: {explanation}" if explanation else name
    return RawRow(
        where=where,
        id=str(row.get("id", f"{stem}/{number}")),
        image=field_of(row, "image_path", where),
        image_size=field_of(row, "image_size", where),
        instruction=text,
        box=field_of(row, "bbox", where),
        fields={"app": str(row.get("platform", ""))},
    )
