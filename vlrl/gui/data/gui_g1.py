"""GUI-G1's rows (image, problem, solution, rate), which are VLM-R1's too."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"
FIELDS = ("rate", "normal_caption", "dataset")


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; `solution` is xyxy in pixels of the original image, `rate` a difficulty weight.

    Source: GUI-G1's and VLM-R1's released data. The rows have no image size.
    """
    number = where.rpartition(" ")[2]
    return RawRow(
        where=where,
        id=f"{stem}/{number}",
        image=field_of(row, "image", where),
        image_size=row.get("image_size"),
        instruction=field_of(row, "problem", where),
        box=field_of(row, "solution", where),
        fields={name: row[name] for name in FIELDS if name in row},
    )
