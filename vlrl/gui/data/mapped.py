"""Any table with a column mapping: JSON, parquet, an image folder, or a name on the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vlrl.data.fields import field_of, id_of, row_of
from vlrl.data.json_file import read_json_rows
from vlrl.data.table import load_table
from vlrl.errors import ConfigError, DataError, did_you_mean
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.rows import RawRow
from vlrl.gui.data.table_images import image_path_of

TEXTS = ("kind", "app", "element_type", "platform")
"""Kept as strings."""
LISTS = ("boxes", "salience")
"""Kept as they are; read by a task that has `several_boxes`."""
OURS = ("id", "image", "image_size", "instruction", "box", *TEXTS, *LISTS)


def mapped_rows(options: SourceOptions) -> Iterator[tuple[Any, str, str]]:
    """(row, its place, its file's stem), in order; raises DataError if the source is unreadable."""
    path = Path(options.path)
    if options.format == "rows" and path.suffix in (".json", ".jsonl"):
        for number, row in enumerate(read_json_rows(path), start=1):
            yield row, f"{path}, row {number}", path.stem
        return
    if options.format != "hub" and not path.is_dir() and path.suffix != ".parquet":
        raise DataError(
            f"{path}: `rows` reads .json, .jsonl and .parquet files, folders of .parquet files and "
            "image folders"
        )
    table = load_table(
        options.path, hub=options.format == "hub", subset=options.subset, split=options.split
    )
    for number, row in enumerate(table, start=1):
        yield row, f"{options.path}, row {number}", path.stem or "hub"


def row_reader(options: SourceOptions) -> Callable[[object, str, str], RawRow]:
    """A reader of rows under the options' column mapping; raises ConfigError on an unknown one."""
    for ours in options.columns:
        if ours not in OURS:
            raise ConfigError(f"`columns` has no {ours!r}; {did_you_mean(ours, OURS)}")
    names = {ours: options.columns.get(ours, ours) for ours in OURS}
    names["box"] = options.columns.get("box", "bbox")

    def read_row(value: object, where: str, stem: str) -> RawRow:
        row = row_of(value, where)
        image = field_of(row, names["image"], where)
        optional = {ours: row[name] for ours, name in names.items() if name in row}
        number, own = where.rpartition(" ")[2], optional.get("id")
        return RawRow(
            where=where,
            id=f"{stem}/{number}" if own is None else id_of(own, where),
            image=image_path_of(image, where),
            image_size=optional.get("image_size"),
            instruction=field_of(row, names["instruction"], where),
            box=field_of(row, names["box"], where),
            fields={
                **{name: str(optional[name]) for name in TEXTS if name in optional},
                **{name: optional[name] for name in LISTS if name in optional},
            },
        )

    return read_row
