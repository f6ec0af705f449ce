"""Preferences between two pictures (or two texts), out of the common layouts; errors name the
row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vlrl.data.collect import Rows, collect
from vlrl.data.json_file import read_json_rows
from vlrl.errors import DataError

Content = Path | str
"""A candidate: a picture's file, or a text."""
PreferenceFormat = Literal[
    "pairs",
    "hpd_v2",
    "pick_a_pic",
    "image_reward_db",
    "genai_bench",
    "vl_reward_bench",
    "reward_bench",
]


class PreferenceSource(BaseModel):
    """Where preferences lie. Example: {path: train.json, format: hpd_v2, image_root: train}."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")

    path: str
    """A .json, .jsonl or .parquet file; or a `datasets` name, with `hub: true`."""
    format: PreferenceFormat = "pairs"
    image_root: str | None = None
    """Folder of the pictures; the file's own folder where it is not given."""
    unpack: str | None = None
    """Folder for pictures that stand inside the file as bytes; beside the file by default."""
    hub: bool = False
    subset: str | None = None
    split: str = "train"
    ties: Literal["drop", "keep"] = "drop"
    """Two that people call equal teach no yes and no no; a benchmark keeps them."""
    limit: int | None = Field(default=None, gt=0)
    on_bad_row: Literal["error", "skip"] = "error"

    def folder(self) -> Path:
        """Where relative picture paths begin."""
        return Path(self.image_root) if self.image_root else Path(self.path).parent


@dataclass(frozen=True)
class Preference:
    """Two candidates for one caption, and which of them people (or the truth) prefer."""

    where: str
    id: str
    caption: str
    first: Content
    second: Content
    preferred: int
    """1 or 2; 0 = a tie."""
    context: tuple[Path, ...] = ()
    """Pictures that belong to the question, where texts are judged."""
    criterion: str = ""
    kind: str = ""
    """What it is reported by: the degradation, the category."""
    reasoning: str = ""
    """A rationale for this order, where the data has one."""
    group: str = ""
    """One of many: the preferred one of all rows of this group is the same."""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> Content:
        """The preferred one; of a tie the first."""
        return self.second if self.preferred == 2 else self.first

    @property
    def rejected(self) -> Content:
        """The other one."""
        return self.first if self.preferred == 2 else self.second


@dataclass(frozen=True)
class Reader:
    """What a layout's rows are read with."""

    source: PreferenceSource
    where: str
    id: str

    def text(self, row: Mapping[str, Any], *names: str) -> str:
        """The first of these fields that is there, a text that is not empty."""
        for name in names:
            if row.get(name) is not None:
                value = row[name]
                if not isinstance(value, str) or not value.strip():
                    raise DataError(f"{self.where}: field {name!r} is a text, not {value!r}")
                return value.strip()
        raise DataError(f"{self.where}: field {names[0]!r} is missing; the row has {sorted(row)}")

    def picture(self, value: Any, name: str) -> Path:
        """A file that is there; bytes are unpacked into one, named by their hash."""
        if isinstance(value, Mapping) and (value.get("bytes") or value.get("path")):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes | bytearray):
            return self._unpacked(bytes(value))
        if not isinstance(value, str) or not value:
            kind = type(value).__name__
            raise DataError(
                f"{self.where}: field {name!r} is a picture's file or bytes, not {kind}"
            )
        path = self.source.folder() / value
        if not path.is_file():
            raise DataError(
                f"{self.where}: field {name!r}: there is no picture {path}; check `image_root`"
            )
        return path

    def two(self, row: Mapping[str, Any], name: str) -> list[Any]:
        """A field that is a list of two."""
        value = row.get(name)
        if not isinstance(value, list) or len(value) != 2:
            raise DataError(f"{self.where}: field {name!r} is a list of two, not {value!r}")
        return value

    def _unpacked(self, content: bytes) -> Path:
        source = self.source
        folder = Path(source.unpack or f"{source.path.replace('/', '__')}.images")
        if source.unpack is None and not source.hub:
            folder = Path(f"{source.path}.images")
        path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.img"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return path


RowReader = Callable[[Mapping[str, Any], Reader], list[Preference]]


def read_preferences(source: PreferenceSource) -> Rows[Preference]:
    """The preferences of a source in order; a bad row raises DataError, or is listed as skipped.

    Layouts whose rows are single rated pictures (ImageRewardDB) give all pairs of a prompt.
    """
    from vlrl.data.preference_layouts import GROUPED, LAYOUTS, grouped_rows

    rows = _raw_rows(source)
    if source.format in GROUPED:
        rows = grouped_rows(rows, GROUPED[source.format])
    layout = LAYOUTS[source.format]

    def entries() -> Iterator[tuple[str, Callable[[], Preference]]]:
        for row, where, number in rows:
            reader = Reader(source, where, f"{Path(source.path).stem}/{number}")
            try:
                found = _read(layout, row, reader)
            except DataError as error:
                yield where, partial(_raise, error)
                continue
            for one in found:
                if one.preferred or source.ties == "keep":
                    yield where, partial(_same, one)

    return collect(entries(), source.path, limit=source.limit, on_bad_row=source.on_bad_row)


def _read(layout: RowReader, row: Any, reader: Reader) -> list[Preference]:
    if not isinstance(row, Mapping):
        raise DataError(f"{reader.where}: a row is a JSON object, not {type(row).__name__}")
    return layout(row, reader)


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
