"""JSON and JSON-lines files as lists, with errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlrl.errors import DataError


def read_json_rows(path: Path) -> list[Any]:
    """The rows of a .json list or of a .jsonl file; raises DataError.

    Python's JSON reader accepts NaN and Infinity; this one rejects them.
    """
    text = read_text(path)
    if path.suffix == ".jsonl":
        return [
            _load(line, f"{path}, line {number}")
            # Not splitlines: JSON strings may hold U+2028 and the like, which do not end a line.
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        ]
    rows = _load(text, str(path))
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}; a list of rows is needed")
    return rows


def read_json(path: Path) -> Any:
    """The value of a .json file; raises DataError, also where an object repeats a name."""
    return _load(read_text(path), str(path), object_pairs_hook=_unique)


def read_text(path: Path) -> str:
    """The text of a data file, without a byte-order mark; raises DataError."""
    if not path.is_file():
        raise DataError(f"there is no data file {path}; check `path`")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from error


def whole_lines(path: Path) -> list[str]:
    """The lines of a file of JSON objects but for one that a kill has cut; raises DataError."""
    # Not splitlines: JSON strings may hold U+2028 and the like, which do not end a line.
    return [line for line in read_text(path).split("\n") if line.endswith("}")]


def _load(text: str, where: str, **hooks: Any) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse, **hooks)
        # Only an escape can hold half a character.
        return _clean(value) if "\\ud" in text or "\\uD" in text else value
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from error


def clean_text(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair that has no other half.

    No tokenizer and no file takes them; JSON's escapes can spell them.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {clean_text(key): _clean(one) for key, one in value.items()}
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} appears twice in one object")
    return found
