"""How a file's rows become rows under our names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlrl.data.fields import Row, field_of, id_of, row_of
from vlrl.gui.data.rows import Convention, RawRow
from vlrl.gui.data.table_images import image_path_of

Finish = Callable[[RawRow, Row, str], RawRow]
"""What no column says: (row so far, the file's row, the file's stem)."""


@dataclass(frozen=True)
class Target:
    """One target of a row that has several, or that says it in another way than by columns."""

    image: Any
    instruction: Any
    box: Any = None
    """Four numbers, in the layout's convention or in `convention`."""
    point: Any = None
    """Two numbers, where there is no box."""
    image_size: Any = None
    frame: Any = None
    """[width, height] that pixels are counted in, where the row says so and it is not the image's.
    """
    convention: Convention | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A part of a row that is no target, and why: it is counted, and no error."""

    reason: str


@dataclass(frozen=True)
class Place:
    """Where a row is from."""

    where: str
    """File and row, for messages."""
    folder: Path
    """Of its file."""


Elements = Callable[[Row, Place], Iterable[Target | LeftOut]]

_PLACE = re.compile(r"(?:, (?:row|element) [0-9]+)+$")


def place_id(where: str, stem: str) -> str:
    """An id by place: the file's name, and the numbers of row and element."""
    found = _PLACE.search(where)
    return "/".join([stem, *re.findall(r"[0-9]+", found[0] if found is not None else "")])


@dataclass(frozen=True)
class Layout:
    """Maps a file's columns to our fields; a missing one is a DataError unless said otherwise."""

    convention: Convention
    image: str = ""
    box: str = ""
    size: str | tuple[str, str] | None = "image_size"
    """Column of [width, height], or the two columns; None = read from the image file."""
    needs_size: bool = True
    instruction: str = "instruction"
    id: Literal["own", "own in file", "own or place", "place"] = "own or place"
    """The column `id`, or the row's number in its file; "own in file": a number follows the file's
    name where two files have it."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Our name to theirs."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Our name to theirs, as strings; empty where missing."""
    kept: tuple[str, ...] = ()
    """Columns that keep their names; left out where missing."""
    finish: Finish | None = None
    elements: Elements | None = None
    """Reads every target of a row, where the columns above do not say it: several elements of one
    image, conversations, other files."""
    resize: tuple[int, int, int] | None = None
    """Boxes are in pixels of the image resized so: `smart_resize`'s factor, least and largest area.
    """
    objects: Literal["row", "rows"] | None = None
    """What a JSON file that holds an object is: one row, or rows by their keys."""
    nested: bool = False
    """Whether a folder's data files lie in its subfolders."""

    def read_row(self, value: object, where: str, stem: str) -> RawRow:
        """One row under our names; raises DataError on a missing field."""
        row = row_of(value, where)
        own_id = self._id(row, where, stem)
        is_number = self.id == "own in file" and not isinstance(row["id"], str)
        raw = RawRow(
            where=where,
            id=own_id,
            id_in_file=f"{stem}/{own_id}" if is_number else None,
            image=image_path_of(field_of(row, self.image, where), where),
            image_size=self._size(row, where),
            instruction=field_of(row, self.instruction, where),
            box=field_of(row, self.box, where),
            fields={
                **{ours: field_of(row, theirs, where) for ours, theirs in self.fields.items()},
                **{ours: str(row.get(theirs, "")) for ours, theirs in self.texts.items()},
                **{name: row[name] for name in self.kept if name in row},
            },
        )
        return raw if self.finish is None else self.finish(raw, row, stem)

    def of_element(self, target: Target, where: str, stem: str) -> RawRow:
        """A target of `elements` as a row; its id is its place."""
        return RawRow(
            where=where,
            id=place_id(where, stem),
            image=target.image,
            image_size=target.image_size,
            instruction=target.instruction,
            box=target.box,
            fields=target.fields,
            point=target.point,
            frame=target.frame,
            resize=self.resize,
            convention=target.convention,
        )

    def _id(self, row: Row, where: str, stem: str) -> str:
        if self.id == "place" or (self.id == "own or place" and row.get("id") is None):
            return place_id(where, stem)
        return id_of(field_of(row, "id", where), where)

    def _size(self, row: Row, where: str) -> Any:
        if isinstance(self.size, tuple):
            sides = [row[side] for side in self.size if side in row]
            return sides if len(sides) == len(self.size) else None
        if self.size is None:
            return None
        return field_of(row, self.size, where) if self.needs_size else row.get(self.size)
