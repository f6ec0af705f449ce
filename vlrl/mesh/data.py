"""Captions of shapes with their references: JSON lines, JSON lists, 3DGen-R1's CSV, text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlrl.config.section import Section
from vlrl.data.collect import Rows, collect
from vlrl.data.fields import check_length, shown
from vlrl.data.json_file import read_json, read_json_rows, read_text
from vlrl.data.paths import path_below
from vlrl.errors import ConfigError, DataError


class ShapeSource(Section):
    """One split's captions; the file's ending says how it is read.

    - `.jsonl`, `.json`: rows with `caption` (or `prompt`) and maybe `id`, `reference`;
    - `.csv`: `sha256` and `captions` or `prompt`; a cell with a JSON list of captions, long to
      short, is indexed by `caption_index` (TRELLIS' and 3DGen-R1's metadata);
    - `.txt`: one caption per line.
    """

    path: str
    references_root: str | None = None
    """Folder of the references; None = the data file's own folder."""
    within_root: bool = False
    """Refuse absolute paths, `..` and links that lead out of that folder; otherwise they are
    followed."""
    reference_pattern: str | None = None
    """For rows without a reference: a file by the row's id, e.g. "{id}/mesh.ply"."""
    caption_index: int = 0
    """Which caption of a list; -1 = the last, shortest one."""
    limit: int | None = Field(default=None, gt=0)
    """At most this many rows, the first good ones."""


@dataclass(frozen=True)
class ShapeRow:
    """One checked caption."""

    where: str
    id: str
    caption: str
    reference: str | None = None
    """`file.npz#name` or a mesh file; it exists."""
    labels: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_shapes(
    source: ShapeSource,
    *,
    labels: Sequence[str] = (),
    on_bad_row: Literal["error", "skip"] = "error",
) -> Rows[ShapeRow]:
    """The checked captions of a split.

    labels: row fields to report by. A bad row raises DataError, or with `skip` is listed.
    """
    path = Path(source.path)
    entries = (
        (where, partial(_check, raw, where, f"{path.stem}/{number}", source, labels))
        for raw, where, number in _raw_rows(path)
    )
    return collect(entries, str(path), limit=source.limit, on_bad_row=on_bad_row)


def _raw_rows(path: Path) -> Iterator[tuple[Any, str, int]]:
    kind = "row"
    rows: list[Any]
    if path.suffix == ".jsonl":
        rows = list(read_json_rows(path))
    elif path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError(f"{path}: holds a {type(content).__name__}; a list of rows is needed")
        rows = content
    elif path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(read_text(path))))
    elif path.suffix == ".txt":
        kind = "line"
        rows = [{"caption": line} for line in read_text(path).rstrip().split("\n")]
    else:
        raise ConfigError(f"{path}: captions are read from .jsonl, .json, .csv and .txt files")
    for number, row in enumerate(rows, start=1):
        yield row, f"{path}, {kind} {number}", number


def _check(
    row: object, where: str, default_id: str, source: ShapeSource, labels: Sequence[str]
) -> ShapeRow:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a row is an object, not {type(row).__name__}")
    name = row.get("id") or row.get("sha256") or default_id
    return ShapeRow(
        where=where,
        id=str(name),
        caption=_caption(row, where, source.caption_index),
        reference=_reference(row, where, str(name), source),
        labels={key: str(row[key]) for key in labels if row.get(key) not in (None, "")},
        fields=row,
    )


def _caption(row: Mapping[str, Any], where: str, index: int) -> str:
    value = next((row[key] for key in ("caption", "captions", "prompt") if row.get(key)), None)
    if isinstance(value, str) and value.lstrip().startswith("["):
        # 3DGen-R1's own evaluation uses such a cell verbatim, brackets included.
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: field 'captions' is not a JSON list: {error}") from error
    if isinstance(value, list):
        try:
            value = value[index]
        except IndexError as error:
            raise DataError(f"{where}: has {len(value)} captions, none at {index}") from error
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field 'caption' must be a non-empty text, not {shown(value)}")
    return check_length(value.strip(), "caption", where)


def _reference(row: Mapping[str, Any], where: str, name: str, source: ShapeSource) -> str | None:
    value = row.get("reference")
    if value is None and source.reference_pattern is not None:
        value = source.reference_pattern.replace("{id}", name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: field 'reference' is a file, not {shown(value)}")
    root = Path(source.path).parent if source.references_root is None else source.references_root
    file, mark, part = value.partition("#")
    path = path_below(Path(root), file, where, within=source.within_root)
    if not path.is_file():
        raise DataError(
            f"{where}: field 'reference': there is no file {path}; check `references_root`"
        )
    return f"{path}{mark}{part}"
