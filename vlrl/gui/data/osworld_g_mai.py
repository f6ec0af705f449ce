"""OSWorld-G in MAI-UI's conversion, with the conversion's two faults undone.

Its boxes are xyxy, made from the published xywh; polygons and refusals went the same way. A
polygon's second corner had the first added to it, and a refusal became [0, 0, 0, 0]: both can be
told and taken back exactly. `osworld_g_mai_verbatim` reads the same files as their authors score.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vlrl.gui.data import screenspot_pro
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row in ScreenSpot-Pro's keys; four numbers are a box, more a polygon, zeros a refusal."""
    raw = screenspot_pro.read_row(row, where, stem)
    numbers = raw.box
    if not isinstance(numbers, list) or len(numbers) < 4:
        return raw
    if not any(numbers):
        return replace(raw, box=None, refusal=True)
    if len(numbers) == 4:
        return raw
    x1, y1, x2, y2 = numbers[:4]
    return replace(raw, box=None, polygon=[x1, y1, x2 - x1, y2 - y1, *numbers[4:]])
