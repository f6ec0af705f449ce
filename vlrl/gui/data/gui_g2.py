"""GUI-G2's training rows: image_path, instruction, abs_box, height, width."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; the box is `abs_box`, xyxy in pixels of the original image.

    Source: GUI-G2's released loader. `rela_box` (0 to 1) and `image_url` are not read, as there.
    """
    number = where.rpartition(" ")[2]
    has_size = "width" in row and "height" in row if isinstance(row, dict) else False
    return RawRow(
        where=where,
        id=str(row["id"]) if isinstance(row, dict) and "id" in row else f"{stem}/{number}",
        image=field_of(row, "image_path", where),
        image_size=[row["width"], row["height"]] if has_size else None,
        instruction=field_of(row, "instruction", where),
        box=field_of(row, "abs_box", where),
    )
