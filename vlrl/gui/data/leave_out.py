"""Targets that are left out of a set on request: small, ambiguous or repeated ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vlrl.config.section import Section
from vlrl.data.collect import Rows, require_good
from vlrl.gui.data.rows import GroundingRow


class LeaveOutOptions(Section):
    """Which targets to leave out. Example: {below_px: 8, ambiguous: true, repeated: true}."""

    below_px: Annotated[float, Field(ge=0)] = 0.0
    """Targets whose shorter side is below this, in pixels of the image."""
    ambiguous: bool = False
    """Targets of an instruction that stands at several boxes of its image."""
    repeated: bool = False
    """The second and later targets with the same image, instruction and box."""


def kept(
    rows: Rows[GroundingRow], options: LeaveOutOptions, limit: int | None, source: str
) -> Rows[GroundingRow]:
    """The rows that stay, at most `limit`; the others are counted by reason.

    Instructions are compared without case. Raises DataError where none stays.
    """
    boxes = _boxes_of(rows.good) if options.ambiguous else {}
    seen: set[tuple[str, str, tuple[float, ...]]] = set()
    good: list[GroundingRow] = []
    left_out = rows.left_out.copy()
    for row in rows.good:
        if limit is not None and len(good) >= limit:
            break
        key = (*_asked(row), row.box)
        x1, y1, x2, y2 = row.box
        if min(x2 - x1, y2 - y1) < options.below_px:
            left_out[f"a side below {options.below_px:g} px"] += 1
        elif len(boxes.get(_asked(row), ())) > 1:
            left_out["an instruction at several boxes of its image"] += 1
        elif options.repeated and key in seen:
            left_out["a repeated target"] += 1
        else:
            good.append(row)
            seen.add(key)
    found = Rows(good, rows.skipped, left_out)
    require_good(found, source)
    return found


def _asked(row: GroundingRow) -> tuple[str, str]:
    return row.image, row.instruction.casefold()


def _boxes_of(
    rows: Sequence[GroundingRow],
) -> dict[tuple[str, str], set[tuple[float, float, float, float]]]:
    boxes = defaultdict(set)
    for row in rows:
        boxes[_asked(row)].add(row.box)
    return boxes
