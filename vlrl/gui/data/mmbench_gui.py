"""MMBench-GUI L2 as published: boxes xyxy from 0 to 1, a folder of images for each platform."""

from __future__ import annotations

from typing import Any

from vlrl.data.fields import field_of
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_unit"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row; `grounding_type` is basic or advanced, `data_type` icon or text.

    Source: MMBench-GUI's `L2_annotations.json`; images lie in `offline_images/<platform>/`.
    """
    platform = str(field_of(row, "platform", where))
    image = field_of(row, "image_path", where)
    number = where.rpartition(" ")[2]
    return RawRow(
        where=where,
        id=str(row.get("id", f"{stem}/{number}")),
        image=f"{platform}/{image}" if isinstance(image, str) else image,
        image_size=field_of(row, "image_size", where),
        instruction=field_of(row, "instruction", where),
        box=field_of(row, "bbox", where),
        fields={
            "element_type": field_of(row, "data_type", where),
            "group": field_of(row, "grounding_type", where),
            "platform": platform,
            "app": str(row.get("app_name", "")),
        },
    )
