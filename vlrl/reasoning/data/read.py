"""From a split's source to its checked rows."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from vlrl.data.collect import Rows, collect
from vlrl.data.fields import Row, field_of, row_of
from vlrl.data.json_file import read_json, read_json_rows, read_text
from vlrl.data.table import load_table, parquet_files
from vlrl.errors import ConfigError, DataError
from vlrl.reasoning.data.layouts import LAYOUTS, Layout, Place
from vlrl.reasoning.data.options import ReasoningSource
from vlrl.reasoning.data.row import ReasoningRow, check_question

MAX_FIELD_CHARS = 2**27
"""Of a field of a .tsv file, which may hold an image in base64."""
_IMAGE_ENDS = (".png", ".jpg", ".jpeg", ".JPG", ".webp")


def read_questions(
    source: ReasoningSource,
    *,
    limit: int | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    check: Callable[[ReasoningRow], None] | None = None,
) -> Rows[ReasoningRow]:
    """The checked questions of a source in order, at most `limit` good ones.

    check: what else a good row must pass; raises DataError. A bad row raises, or with `skip` is
    listed in `skipped`.
    """
    if (source.subset is not None or source.split != "train") and not source.hub:
        raise ConfigError("`subset` and `split` are of datasets by name: set `hub: true`")
    layout = LAYOUTS[source.format]
    entries = (
        (where, partial(_checked, layout, row, Place(where, name), source))
        for row, where, name in _raw_rows(source)
    )
    return collect(entries, source.path, limit=limit, on_bad_row=on_bad_row, check=check)


def _checked(layout: Layout, value: Any, place: Place, source: ReasoningSource) -> ReasoningRow:
    row = row_of(value, place.where)
    return check_question(layout(_renamed(row, source, place.where), place), source)


def _renamed(row: Row, source: ReasoningSource, where: str) -> Row:
    """The row with the file's columns under the layout's names."""
    found = dict(row)
    for ours, theirs in source.columns.items():
        found[ours] = field_of(row, theirs, where)
    return found


def _raw_rows(source: ReasoningSource) -> Iterator[tuple[Any, str, str]]:
    """(row, its place, what it is called without an id), in file order."""
    path = Path(source.path)
    if source.hub or parquet_files(path):
        table: Any = load_table(source.path, hub=source.hub, subset=source.subset,
                                split=source.split)  # fmt: skip
        for number, row in enumerate(table, start=1):
            yield row, f"{source.path}, row {number}", f"{path.stem}/{number}"
        return
    if path.is_dir():
        yield from _folder_rows(path, source)
        return
    yield from _file_rows(path)


def _file_rows(path: Path) -> Iterator[tuple[Any, str, str]]:
    if path.suffix == ".tsv":
        rows: list[Any] = _tsv_rows(path)
    elif path.suffix in (".json", ".jsonl"):
        rows = read_json_rows(path)
    else:
        raise DataError(f"{path}: questions are read from .json, .jsonl, .parquet and .tsv files")
    for number, row in enumerate(rows, start=1):
        yield row, f"{path}, row {number}", f"{path.stem}/{number}"


def _tsv_rows(path: Path) -> list[Any]:
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        return list(csv.DictReader(read_text(path).splitlines(keepends=True), delimiter="\t"))
    except csv.Error as error:
        raise DataError(f"{path}: not tab-separated values: {error}") from error


def _folder_rows(path: Path, source: ReasoningSource) -> Iterator[tuple[Any, str, str]]:
    """Files of rows; of the two sets that have a file for each question, those."""
    if source.format == "geometry3k" and (files := _numbered(path)):
        for file in files:
            folder = file.parent
            picture = str(folder.relative_to(path) / "img_diagram.png")
            row = {**row_of(read_json(file), str(file)), "id": folder.name, "images": [picture]}
            yield row, str(file), folder.name
        return
    files = sorted(path.glob("*.jsonl"))
    if not files:
        files = sorted(path.glob("*.json"))
    if not files and source.format == "vstar":
        files = sorted(path.glob("*/*.json"))
    if not files:
        raise DataError(
            f"there is no .json, .jsonl or .parquet file in {path}; check `path` and `format`"
        )
    for file in files:
        value = read_json(file) if file.suffix == ".json" else None
        if isinstance(value, Mapping):  # an annotation of V*, beside its image
            name = str(file.relative_to(path).with_suffix(""))
            yield {**value, "id": name, "images": [_beside(file, path)]}, str(file), name
        else:
            yield from _file_rows(file)


def _numbered(path: Path) -> list[Path]:
    found = path.glob("*/data.json")
    return sorted(found, key=lambda file: (len(file.parent.name), file.parent.name))


def _beside(file: Path, folder: Path) -> str:
    """The image of the same name."""
    for end in _IMAGE_ENDS:
        if file.with_suffix(end).is_file():
            return str(file.with_suffix(end).relative_to(folder))
    return str(file.with_suffix(_IMAGE_ENDS[0]).relative_to(folder))
