"""From a split's options to its checked rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from vlrl.data.collect import LeftOutError, Rows, collect
from vlrl.data.fields import row_of
from vlrl.data.json_file import read_json, read_json_rows
from vlrl.data.table import parquet_files
from vlrl.errors import ConfigError, DataError
from vlrl.gui.data.layout import LeftOut, Place
from vlrl.gui.data.layouts import LAYOUTS, Layout
from vlrl.gui.data.leave_out import kept
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.rows import Convention, GroundingRow, RawRow, check_row
from vlrl.gui.data.sampling import dataset_yaml, sampled

Reader = Callable[[], RawRow]
"""Reads one row; raises DataError, or LeftOutError for what is no target."""


def read_rows_of(
    options: SourceOptions,
    *,
    on_bad_row: Literal["error", "skip"] = "error",
    limit: int | None = None,
    check: Callable[[GroundingRow], None] | None = None,
) -> Rows[GroundingRow]:
    """The checked rows of a split, at most `limit` good ones.

    check: what else a good row must pass; raises DataError.

    A bad row raises DataError, or with `skip` is listed in `skipped`. A file that cannot be
    read at all, and one with no good row, always raise. What is no target, and what
    `options.leave_out` names, is counted in `left_out`.
    """
    unused = options.unused()
    if unused:
        raise ConfigError(f"format {options.format!r} has no use for {', '.join(unused)}; remove")
    taken: dict[str, str] = {}
    entries = (
        (where, partial(_checked, options, read_row, stem, convention, taken))
        for read_row, where, stem, convention in _raw_rows(options)
    )
    # What is ambiguous or repeated is known when all rows of an image are.
    whole = options.leave_out is not None
    rows = collect(
        entries,
        str(options.path),
        limit=None if whole else limit,
        on_bad_row=on_bad_row,
        check=check,
    )
    return rows if options.leave_out is None else kept(rows, options.leave_out, limit, options.path)


def _checked(
    options: SourceOptions,
    read_row: Reader,
    stem: str,
    convention: Convention,
    taken: dict[str, str],
) -> GroundingRow:
    raw = read_row().apart(taken, stem)
    return check_row(
        raw,
        options.box or raw.convention or convention,
        options.folder(),
        check_images=options.check_images,
        clip_px=options.clip_px,
        within_root=options.within_root,
        point_side_px=options.point_side_px,
    )


def _raw_rows(options: SourceOptions) -> Iterator[tuple[Reader, str, str, Convention]]:
    """(how to read a row, its place, its file's stem, its box convention), in file order."""
    if options.format in ("rows", "hub"):
        from vlrl.gui.data.mapped import mapped_rows, row_reader

        if options.box is None:
            raise ConfigError(f"format {options.format!r} needs `box:`, e.g. `box: xyxy_px`")
        read_row = row_reader(options)
        for row, where, stem in mapped_rows(options):
            yield partial(read_row, row, where, stem), where, stem, options.box
        return
    layout = LAYOUTS[options.format]
    for path, strategy in source_files(Path(options.path), options.format, layout.nested):
        rows = file_rows(path, layout)
        for index in sampled(len(rows), strategy, str(path)):
            for read, where in row_targets(
                layout, rows[index], row_place(path, index, layout), path
            ):
                yield read, where, path.stem, layout.convention


def row_place(path: Path, index: int, layout: Layout) -> str:
    """Where a row is, for messages; the first row is row 1."""
    is_row = layout.objects == "row" and path.suffix != ".jsonl"
    return str(path) if is_row else f"{path}, row {index + 1}"


def file_rows(path: Path, layout: Layout) -> Sequence[Any]:
    """The rows of one file: JSON, JSON lines, or a table (a .parquet file or a folder of them).

    Raises DataError.
    """
    if path.is_dir() or path.suffix == ".parquet":
        from vlrl.data.table import load_table

        table: Any = load_table(str(path), hub=False)
        return table
    if layout.objects is None or path.suffix == ".jsonl":
        return read_json_rows(path)
    value = read_json(path)
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: holds a {type(value).__name__}; an object is needed")
    return list(value.values()) if layout.objects == "rows" else [value]


def row_targets(
    layout: Layout, value: object, where: str, path: Path
) -> Iterator[tuple[Reader, str]]:
    """(how to read a target, its place) for every target of a file's row."""
    if layout.elements is None:
        yield partial(layout.read_row, value, where, path.stem), where
        return
    try:
        found = list(layout.elements(row_of(value, where), Place(where, path.parent)))
    except DataError as error:
        yield partial(_raise, error), where
        return
    for number, target in enumerate(found, start=1):
        place = where if len(found) == 1 else f"{where}, element {number}"
        if isinstance(target, LeftOut):
            yield partial(_raise, LeftOutError(target.reason)), place
        else:
            yield partial(layout.of_element, target, place, path.stem), place


def _raise(error: Exception) -> RawRow:
    raise error


def source_files(path: Path, format_name: str, nested: bool = False) -> list[tuple[Path, str]]:
    """The data files behind a path, each with its sampling strategy (`all` except for GUI-G2).

    A folder with .parquet files is one table. nested: look into subfolders too.
    """
    if path.suffix in (".yaml", ".yml"):
        if format_name != "gui_g2":
            raise ConfigError(f"a dataset YAML is GUI-G2's: {path} needs `format: gui_g2`")
        return dataset_yaml(path)
    if not path.is_dir():
        return [(path, "all")]
    find = path.rglob if nested else path.glob
    files = sorted([*find("*.json"), *find("*.jsonl")])
    if files:
        return [(file, "all") for file in files]
    if parquet_files(path):
        return [(path, "all")]
    raise DataError(f"there is no .json, .jsonl or .parquet file in {path}; check `path`")
