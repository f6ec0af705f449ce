"""ScreenSpot v1 and v2 as published: boxes xywh in pixels, sizes on the image files only."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xywh_px"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; `data_type` is text or icon, `data_source` the operating system or site.

    Source: SeeClick's files and OS-Atlas's relabelling. Conversions in ScreenSpot-Pro's keys
    are read by `screenspot_pro`; re-uploads with other corners need `box:`.
    """
    number = where.rpartition(" ")[2]
    return RawRow(
        where=where,
        id=f"{stem}/{number}",
        image=field_of(row, "img_filename", where),
        image_size=row.get("img_size"),
        instruction=field_of(row, "instruction", where),
        box=field_of(row, "bbox", where),
        fields={
            "element_type": field_of(row, "data_type", where),
            "app": str(row.get("data_source", "")),
            "platform": stem.removeprefix("screenspot_").removesuffix("_v2"),
        },
    )
