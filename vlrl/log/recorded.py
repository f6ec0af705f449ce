"""Groups that a run has recorded, as reports, audits and training on preferences read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlrl.data.fields import field_of, row_of, shown
from vlrl.errors import DataError
from vlrl.log.report.files import record_of
from vlrl.types import Finish, Score

KINDS = {"step": int, "sample": str, "answers": list}
"""What a recorded group has."""


def recorded_paths(folder: Path) -> list[Path]:
    """The files of a run's groups, in the order of their steps."""
    return sorted((folder / "rollouts").glob("step-*/group-*.json"))


def recorded_group(path: Path, *fields: str) -> dict[str, Any]:
    """One group; DataError with file, answer and field for a cut file and for other files.

    fields: what each answer must have.
    """
    record = record_of(path, *KINDS)
    for name, kind in KINDS.items():
        if not isinstance(record[name], kind):
            raise DataError(
                f"{path}: field {name!r} must be a {kind.__name__}, not {shown(record[name])}"
            )
    for place, answer in enumerate(record["answers"]):
        where = f"{path}, answer {place}"
        for name in fields:
            field_of(answer, name, where)
        recorded_score(row_of(answer, where), where)
        recorded_finish(answer, where)
    return record


def recorded_score(answer: Mapping[str, Any], where: str) -> Score:
    """What an answer got; DataError for anything but numbers."""
    reward, parts = answer.get("reward"), answer.get("parts") or {}
    if not isinstance(parts, Mapping):
        raise DataError(f"{where}: field 'parts' must map names to numbers, not {shown(parts)}")
    numbers = {"reward": reward, "advantage": answer.get("advantage", 0.0), **parts}
    for name, value in numbers.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number and not (name == "reward" and value is None):
            raise DataError(f"{where}: field {name!r} must be a number, not {shown(value)}")
    return Score(reward, dict(parts))


def recorded_finish(answer: Mapping[str, Any], where: str) -> Finish:
    """How it ended, of itself where nothing is said; DataError for another word."""
    known = {one.value: one for one in Finish}
    value = answer.get("finish", Finish.STOP.value)
    if value not in known:
        raise DataError(
            f"{where}: field 'finish' must be one of {sorted(known)}, not {shown(value)}"
        )
    return known[value]
