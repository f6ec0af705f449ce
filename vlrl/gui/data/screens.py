"""vlrl's own screens sets: one instruction for one element of one screenshot a row."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"
FIELDS = ("kind", "element_type", "role", "name", "app", "platform", "screen", "familiar")


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; images are relative to the file. Raises DataError on a missing field."""
    return RawRow(
        where=where,
        id=str(field_of(row, "id", where)),
        image=field_of(row, "image", where),
        image_size=field_of(row, "image_size", where),
        instruction=field_of(row, "instruction", where),
        box=field_of(row, "bbox", where),
        fields={name: row[name] for name in FIELDS if name in row},
    )
