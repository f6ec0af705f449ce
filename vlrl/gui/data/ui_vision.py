"""UI-Vision element grounding: boxes xyxy in pixels, floats."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; `platform` is the application. Source: UI-Vision's annotation files.

    Of its 5,479 boxes 27 lie up to 2.3 px outside the image: use `clip_px: 3`. One has no area.
    """
    number = where.rpartition(" ")[2]
    return RawRow(
        where=where,
        id=str(row["id"]) if isinstance(row, dict) and "id" in row else f"{stem}/{number}",
        image=field_of(row, "image_path", where),
        image_size=field_of(row, "image_size", where),
        instruction=field_of(row, "prompt_to_evaluate", where),
        box=field_of(row, "bbox", where),
        fields={
            "element_type": str(row.get("element_type", "")),
            "app": str(row.get("platform", "")),
            "category": str(row.get("category", "")),
        },
    )
