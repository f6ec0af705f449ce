"""Any table with a column mapping: JSON, parquet, an image folder, or a name on the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from vlrl.data.fields import field_of, row_of
from vlrl.data.json_file import read_json_rows
from vlrl.errors import ConfigError, DataError, did_you_mean
from vlrl.gui.data.options import SourceOptions
from vlrl.gui.data.rows import RawRow

OURS = (
    "id",
    "image",
    "image_size",
    "instruction",
    "box",
    "kind",
    "app",
    "element_type",
    "platform",
)


def mapped_rows(options: SourceOptions) -> Iterator[tuple[Any, str, str]]:
    """(row, its place, its file's stem), in order; raises DataError if the source is unreadable."""
    path = Path(options.path)
    if options.format == "rows" and path.suffix in (".json", ".jsonl"):
        for number, row in enumerate(read_json_rows(path), start=1):
            yield row, f"{path}, row {number}", path.stem
        return
    table = _dataset(options, path)
    if "image" in table.column_names:
        from datasets import Image

        if isinstance(table.features["image"], Image):  # the files' bytes, not decoded pixels
            table = table.cast_column("image", Image(decode=False))
    for number, row in enumerate(table, start=1):
        yield row, f"{options.path}, row {number}", path.stem or "hub"


def _dataset(options: SourceOptions, path: Path) -> Any:
    from datasets import load_dataset

    try:
        if options.format == "hub":
            return load_dataset(options.path, options.subset, split=options.split)
        if path.is_dir():
            return load_dataset("imagefolder", data_dir=str(path), split="train")
        if path.suffix == ".parquet":
            return load_dataset("parquet", data_files=str(path), split="train")
    except Exception as error:  # its many kinds of error share no base
        raise DataError(f"{options.path}: cannot be loaded as a dataset: {error}") from error
    raise DataError(f"{path}: `rows` reads .json, .jsonl, .parquet and image folders")


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
        number = where.rpartition(" ")[2]
        return RawRow(
            where=where,
            id=str(optional.get("id", f"{stem}/{number}")),
            image=_stored(image, where) if isinstance(image, Mapping) else image,
            image_size=optional.get("image_size"),
            instruction=field_of(row, names["instruction"], where),
            box=field_of(row, names["box"], where),
            fields={name: str(optional[name]) for name in OURS[5:] if name in optional},
        )

    return read_row


def _stored(image: Mapping[str, Any], where: str) -> str:
    """The path of an image of a table; bytes inside the table are written out once."""
    if image.get("bytes") is None:
        return str(image.get("path"))
    data = image["bytes"]
    if not isinstance(data, bytes):
        raise DataError(f"{where}: field 'image' holds {type(data).__name__}, not bytes")
    folder = Path.home() / ".cache" / "vlrl" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / sha256(data).hexdigest()
    if not file.is_file():
        partial = file.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(file)  # atomic, also when two ranks write it
    return str(file)
