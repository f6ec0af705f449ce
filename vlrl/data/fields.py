"""Fields of a row of data, and errors that name the place."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from vlrl.errors import DataError

Row = Mapping[str, Any]
"""One row of a data file, as it was read."""
MAX_SHOWN = 80
"""Characters of a value in a message."""


class _Short(reprlib.Repr):
    """Values for messages: never the content of bytes, never megabytes of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = MAX_SHOWN
        self.maxlist = self.maxtuple = self.maxdict = 20

    def repr_bytes(self, value: bytes, level: int) -> str:
        return f"<{len(value)} bytes>"

    repr_bytearray = repr_bytes


def shown(value: object) -> str:
    """A value as it appears in a message: its repr of at most 80 characters, bytes by length."""
    text = _Short().repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def as_written(value: object) -> str:
    """A value as it is written in YAML and JSON, so that `0` and `"0"` compare as equal."""
    return str(value).lower() if isinstance(value, bool) else str(value)


MAX_TEXT_CHARS = 20_000
"""Of an instruction, a caption or a sentence; a longer one is a file in the wrong place."""


def check_length(text: str, name: str, where: str, limit: int = MAX_TEXT_CHARS) -> str:
    """The text itself; raises DataError where it is too long for any prompt."""
    if len(text) > limit:
        raise DataError(
            f"{where}: field {name!r} has {len(text)} characters, at most {limit} are "
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


def id_of(value: object, where: str) -> str:
    """An id as text, of a text or a number; raises DataError for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and value.strip()):
        raise DataError(
            f"{where}: field 'id' must be a non-empty text or a number, not {shown(value)}"
        )
    return check_length(str(value), "id", where)
