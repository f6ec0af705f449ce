"""Reads preferences between two images or texts in the common layouts; errors name the row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vlrl.data.collect import Rows, collect
from vlrl.data.fields import row_of
from vlrl.data.json_file import read_json_rows
from vlrl.errors import DataError
from vlrl.judge.data.preference import Preference, PreferenceSource, Reader


def read_preferences(source: PreferenceSource) -> Rows[Preference]:
    """The preferences of a source in order; a bad row raises DataError, or is listed as skipped.

    Layouts whose rows are single rated images (ImageRewardDB) give all pairs of a prompt.
    """
    from vlrl.judge.data.preference_layouts import GROUPED, LAYOUTS, grouped_rows

    rows = _raw_rows(source)
    if source.format in GROUPED:
        rows = grouped_rows(rows, GROUPED[source.format])
    layout = LAYOUTS[source.format]

    def entries() -> Iterator[tuple[str, Callable[[], Preference]]]:
        for row, where, number in rows:
            reader = Reader(source, where, f"{Path(source.path).stem}/{number}")
            try:
                found = layout(row_of(row, where), reader)
            except DataError as error:
                yield where, partial(_raise, error)
                continue
            for one in found:
                if one.preferred or source.ties == "keep":
                    yield where, partial(_same, one)

    return collect(entries(), source.path, limit=source.limit, on_bad_row=source.on_bad_row)


def _raise(error: DataError) -> Preference:
    raise error


def _same(one: Preference) -> Preference:
    return one


def _raw_rows(source: PreferenceSource) -> Iterator[tuple[Any, str, int]]:
    """(row, its place, its number from 1)."""
    path = Path(source.path)
    if not source.hub and path.suffix in (".json", ".jsonl"):
        for number, row in enumerate(read_json_rows(path), start=1):
            yield row, f"{path}, row {number}", number
        return
    for number, row in enumerate(_table(source), start=1):
        yield row, f"{source.path}, row {number}", number


def _table(source: PreferenceSource) -> Any:
    from datasets import Image, load_dataset

    path = Path(source.path)
    if not source.hub and path.suffix != ".parquet":
        raise DataError(f"{path}: preferences are read from .json, .jsonl and .parquet files")
    try:
        if source.hub:
            table = load_dataset(source.path, source.subset, split=source.split)
        else:
            table = load_dataset("parquet", data_files=str(path), split="train")
    except Exception as error:  # its many kinds of error share no base
        raise DataError(f"{source.path}: cannot be loaded as a dataset: {error}") from error
    for name, feature in table.features.items():
        if isinstance(feature, Image):  # the files' bytes, not decoded pixels
            table = table.cast_column(name, Image(decode=False))
    return table
