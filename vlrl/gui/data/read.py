"""From a split's options to its checked rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from vlrl.data.collect import Rows, collect
from vlrl.data.json_file import read_json_rows
from vlrl.errors import ConfigError, DataError
from vlrl.gui.data.layouts import LAYOUTS
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.rows import Convention, GroundingRow, RawRow, check_row
from vlrl.gui.data.sampling import dataset_yaml, sampled

RowReader = Callable[[object, str, str], RawRow]


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
    read at all, and one with no good row, always raise.
    """
    unused = options.unused()
    if unused:
        raise ConfigError(f"format {options.format!r} has no use for {', '.join(unused)}; remove")
    taken: dict[str, str] = {}
    entries = (
        (where, partial(_checked, options, raw, where, stem, read_row, convention, taken))
        for raw, where, stem, read_row, convention in _raw_rows(options)
    )
    return collect(entries, str(options.path), limit=limit, on_bad_row=on_bad_row, check=check)


def _checked(
    options: SourceOptions,
    raw: object,
    where: str,
    stem: str,
    read_row: RowReader,
    convention: Convention,
    taken: dict[str, str],
) -> GroundingRow:
    return check_row(
        read_row(raw, where, stem).apart(taken, stem),
        convention,
        options.folder(),
        check_images=options.check_images,
        clip_px=options.clip_px,
        within_root=options.within_root,
    )


def _raw_rows(options: SourceOptions) -> Iterator[tuple[object, str, str, RowReader, Convention]]:
    """(row, its place, its file's stem, how to read it, its box convention), in file order."""
    if options.format in ("rows", "hub"):
        from vlrl.gui.data.mapped import mapped_rows, row_reader

        if options.box is None:
            raise ConfigError(f"format {options.format!r} needs `box:`, e.g. `box: xyxy_px`")
        read_row = row_reader(options)
        for row, where, stem in mapped_rows(options):
            yield row, where, stem, read_row, options.box
        return
    layout = LAYOUTS[options.format]
    convention = options.box or layout.convention
    for path, fraction in source_files(Path(options.path), options.format):
        rows = read_json_rows(path)
        for index in sampled(len(rows), fraction, str(path)):
            yield rows[index], f"{path}, row {index + 1}", path.stem, layout.read_row, convention


def source_files(path: Path, format_name: str) -> list[tuple[Path, str]]:
    """The data files behind a path, each with its sampling strategy (`all` except for GUI-G2)."""
    if path.suffix in (".yaml", ".yml"):
        if format_name != "gui_g2":
            raise ConfigError(f"a dataset YAML is GUI-G2's: {path} needs `format: gui_g2`")
        return dataset_yaml(path)
    if path.is_dir():
        files = sorted([*path.glob("*.json"), *path.glob("*.jsonl")])
        if not files:
            raise DataError(f"there is no .json or .jsonl file in {path}; check `path`")
        return [(file, "all") for file in files]
    return [(path, "all")]
