"""ScreenSpot-Pro: boxes xyxy in pixels, with image sizes, ids and groups."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"
FIELDS = ("platform", "group", "instruction_cn")


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; `ui_type` is text or icon, or a list of GUI types.

    Source: ScreenSpot-Pro's annotation files, whose keys many conversions use.
    """
    own = field_of(row, "id", where)
    return RawRow(
        where=where,
        id=own if isinstance(own, str) else f"{stem}/{own}",
        image=field_of(row, "img_filename", where),
        image_size=field_of(row, "img_size", where),
        instruction=field_of(row, "instruction", where),
        box=field_of(row, "bbox", where),
        fields={
            "element_type": _joined(field_of(row, "ui_type", where)),
            "app": str(row.get("application", "")),
            **{name: row[name] for name in FIELDS if name in row},
        },
    )


def _joined(kinds: Any) -> str:
    return ", ".join(map(str, kinds)) if isinstance(kinds, list) else str(kinds)
