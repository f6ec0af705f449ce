"""OSWorld-G as published: boxes xywh in pixels, polygons, and targets that are not there."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.errors import DataError
from vlrl.gui.data.rows import RawRow

CONVENTION = "xywh_px"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; `box_type` is bbox, polygon (flat x, y list) or refusal.

    Source: xlang-ai/OSWorld-G's benchmark files, original and refined (same boxes, other words).
    """
    kind = field_of(row, "box_type", where)
    place = field_of(row, "box_coordinates", where)
    if kind not in ("bbox", "polygon", "refusal"):
        raise DataError(f"{where}: field 'box_type' is bbox, polygon or refusal, not {kind!r}")
    types = field_of(row, "GUI_types", where)
    if not isinstance(types, list):
        raise DataError(f"{where}: field 'GUI_types' is a list of texts, not {types!r}")
    return RawRow(
        where=where,
        id=str(field_of(row, "id", where)),
        image=field_of(row, "image_path", where),
        image_size=field_of(row, "image_size", where),
        instruction=field_of(row, "instruction", where),
        box=place if kind == "bbox" else None,
        fields={"element_type": ", ".join(map(str, types)), "kind": kind},
        polygon=place if kind == "polygon" else None,
        refusal=kind == "refusal",
    )
