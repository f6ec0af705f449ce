"""Compares a function of ours with what released code returned (`scripts/released_values.py`)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

TABLES = Path(__file__).resolve().parent / "tables"
MIN_ROWS = 200


def rows(name: str) -> list[tuple[object, object]]:
    """(input, released value) of a table."""
    table = json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))
    assert len(table["rows"]) >= MIN_ROWS
    return [(given, value) for given, value in table["rows"]]


def close(ours: object, theirs: object, tolerance: float) -> bool:
    """Equal JSON values, numbers up to a tolerance (absolute, and relative above 1)."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        if math.isnan(ours) or math.isnan(theirs):
            return math.isnan(ours) and math.isnan(theirs)
        return ours == theirs or abs(ours - theirs) <= tolerance * max(1.0, abs(theirs))
    if isinstance(ours, list | tuple) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(
            close(a, b, tolerance) for a, b in zip(ours, theirs, strict=True)
        )
    return ours == theirs


def compare(
    name: str,
    ours: Callable[[object], object],
    tolerance: float = 0.0,
    differs: Mapping[str, Callable[[object], bool]] | None = None,
) -> None:
    """Every row agrees, or its input is of a kind that differs for a stated reason.

    A reason that explains no difference fails too, so that none outlives its cause.

    Args:
        differs: by reason, whether an input is of that kind.
    """
    explained = dict.fromkeys(differs or {}, 0)
    wrong = []
    for given, theirs in rows(name):
        value = ours(given)
        if close(value, theirs, tolerance):
            continue
        reasons = [reason for reason, is_kind in (differs or {}).items() if is_kind(given)]
        if reasons:
            explained[reasons[0]] += 1
        else:
            wrong.append(f"{given!r}: released {theirs!r}, ours {value!r}")
    assert not wrong, f"{name}: {len(wrong)} rows differ without a reason\n" + "\n".join(wrong[:10])
    idle = [reason for reason, count in explained.items() if not count]
    assert not idle, f"{name}: reasons that explain no row: {idle}"
