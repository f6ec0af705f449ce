"""OSWorld-G in MAI-UI's conversion, taken at its word: to reproduce its authors' figures.

40 polygons are then wrong rectangles, and a click at exactly (0, 0) answers a refusal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vlrl.gui.data import screenspot_pro
from vlrl.gui.data.rows import RawRow

CONVENTION = "xyxy_px"


def read_row(row: Any, where: str, stem: str) -> RawRow:
    """One row in ScreenSpot-Pro's keys; of longer lists the first four numbers count."""
    raw = screenspot_pro.read_row(row, where, stem)
    return replace(raw, box=raw.box[:4]) if isinstance(raw.box, list) else raw
