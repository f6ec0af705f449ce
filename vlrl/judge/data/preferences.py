"""Reads preferences between two images or texts in the common layouts; errors name the row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vlrl.data.collect import Rows, collect
from vlrl.data.fields import row_of
from vlrl.data.json_file import read_json_rows
from vlrl.data.table import load_table, parquet_files
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
    path = Path(source.path)
    if not source.hub and not parquet_files(path):
        raise DataError(
            f"{path}: preferences are read from .json, .jsonl and .parquet files and folders of "
            ".parquet files"
        )
    return load_table(source.path, hub=source.hub, subset=source.subset, split=source.split)
