"""Fields of a row of data, and errors that name the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlrl.errors import DataError

Row = Mapping[str, Any]
"""One row of a data file, as it was read."""

MAX_TEXT_CHARS = 20_000
"""Of an instruction, a caption or a sentence; a longer one is a file in the wrong place."""


def check_length(text: str, name: str, where: str) -> str:
    """The text itself; raises DataError where it is too long for any prompt."""
    if len(text) > MAX_TEXT_CHARS:
        raise DataError(
            f"{where}: field {name!r} has {len(text)} characters, at most {MAX_TEXT_CHARS} are "
            f"read: {text[:60]!r}..."
        )
    return text


def row_of(value: object, where: str) -> Row:
    """The value as a row; raises DataError for anything but a JSON object."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: a row is a JSON object, not {type(value).__name__}")
    return value


def field_of(row: object, name: str, where: str) -> Any:
    """A required field; raises DataError that lists the fields of the row."""
    fields = row_of(row, where)
    if name not in fields:
        raise DataError(f"{where}: field {name!r} is missing; the row has {sorted(fields)}")
    return fields[name]
