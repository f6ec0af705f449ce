"""Fields of a row of data, and errors that name the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlrl.errors import DataError


def field_of(row: Any, name: str, where: str) -> Any:
    """A field that must be there; raises DataError with the ones that are."""
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a row is a JSON object, not {type(row).__name__}")
    if name not in row:
        raise DataError(f"{where}: field {name!r} is missing; the row has {sorted(row)}")
    return row[name]
