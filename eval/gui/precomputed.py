"""Answers that were made elsewhere, of any model: scored without a model and without images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlrl.data.fields import field_of
from vlrl.data.json_file import clean_text, read_json_rows
from vlrl.errors import DataError
from vlrl.eval.gui.asking import Ask, Reply
from vlrl.eval.gui.items import Item
from vlrl.eval.gui.passes import not_asked
from vlrl.eval.gui.strategies import Pass
from vlrl.families.profiles import Profile


@dataclass(frozen=True)
class PrecomputedOptions:
    """How a file of answers is laid out, and what its model saw."""

    path: Path
    answer_field: str = "output"
    id_field: str = "id"
    allow_missing: bool = False
    """Count items without an answer as failed; otherwise they are an error."""
    min_pixels: int | None = None
    max_pixels: int | None = None


def read_precomputed(
    options: PrecomputedOptions, items: Sequence[Item], profile: Profile
) -> dict[str, list[Pass]]:
    """One pass per item, in the order of the items; raises DataError with file and row.

    Reads .jsonl, a .json list, and ScreenSpot-Pro's report ({"details": [...]}). The image's
    size as the model saw it comes from the profile and the pixel limits.
    """
    answers: dict[str, str] = {}
    known = {item.id for item in items}
    for number, row in enumerate(_rows(options.path), start=1):
        where = f"{options.path}, row {number}"
        own, output = _field(row, options.id_field, where), _field(row, options.answer_field, where)
        key = str(own)
        if key not in known:
            raise DataError(
                f"{where}: no item {key!r} in the benchmark; are these answers to another set, or "
                "is the id in another field (--id-field)?"
            )
        if key in answers:
            raise DataError(f"{where}: item {key!r} is answered twice")
        if not isinstance(output, str):
            raise DataError(
                f"{where}: field {options.answer_field!r} must be a string, "
                f"not {type(output).__name__}"
            )
        answers[key] = clean_text(output)
    missing = [item.id for item in items if item.id not in answers]
    if missing and not options.allow_missing:
        raise DataError(
            f"{options.path}: no answer to {len(missing)} of {len(items)} items, the first: "
            f"{missing[0]!r}; with --allow-missing they count as failed"
        )
    return {item.id: [_pass(item, answers.get(item.id), options, profile)] for item in items}


def _pass(item: Item, output: str | None, options: PrecomputedOptions, profile: Profile) -> Pass:
    if item.problem is not None:
        return not_asked(item)
    width, height = int(item.frame.width), int(item.frame.height)
    resized = profile.resized(width, height, options.min_pixels, options.max_pixels)
    error = None if output is not None else "no answer in the file"
    return Pass(Ask(item), Reply(output, resized, error))


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".json" and path.is_file():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not valid JSON: {error}") from error
        if isinstance(data, Mapping) and isinstance(data.get("details"), list):
            return data["details"]
    return read_json_rows(path)


def _field(row: object, name: str, where: str) -> Any:
    try:
        return field_of(row, name, where)
    except DataError as error:
        raise DataError(f"{error} (--answer-field, --id-field)") from error
