"""Tables of the `datasets` library: parquet files, folders of them, image folders, the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def load_table(path: str, *, hub: bool, subset: str | None = None, split: str = "train") -> Dataset:
    """A table whose images stay bytes and paths, whatever their columns are called.

    path: a .parquet file, a folder of .parquet shards (read as one table in the order of their
    names), another folder (of images, with metadata), or with `hub` a name. Raises DataError.
    """
    from datasets import load_dataset

    try:
        if hub:
            table = load_dataset(path, subset, split=split)
        elif shards := parquet_files(Path(path)):
            table = load_dataset("parquet", data_files=list(map(str, shards)), split="train")
        else:
            table = load_dataset("imagefolder", data_dir=path, split="train")
        return _undecoded(table)
    except Exception as error:  # its many kinds of error share no base
        raise DataError(f"{path}: cannot be loaded as a dataset: {error}") from error


def parquet_files(path: Path) -> list[Path]:
    """The .parquet file itself, or those of a folder and its subfolders in order."""
    if path.is_dir():
        return sorted(path.rglob("*.parquet"))
    return [path] if path.suffix == ".parquet" else []


def _undecoded(table: Dataset) -> Dataset:
    for name, feature in table.features.items():
        plain = _plain(feature)
        if plain != feature:
            table = table.cast_column(name, plain)
    return table


def _plain(feature: Any) -> Any:
    """The feature with every image in it left undecoded: {bytes, path}."""
    from datasets import Image, LargeList, List

    if isinstance(feature, Image):
        return Image(decode=False)
    if isinstance(feature, List):
        return List(_plain(feature.feature), length=feature.length)
    if isinstance(feature, LargeList):
        return LargeList(_plain(feature.feature))
    if isinstance(feature, dict):
        return {name: _plain(own) for name, own in feature.items()}
    return feature
