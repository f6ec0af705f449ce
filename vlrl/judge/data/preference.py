"""A preference between two candidates, where they come from, and how a row is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlrl.config.section import Section
from vlrl.data.fields import Row, check_length, shown
from vlrl.data.paths import path_below
from vlrl.errors import DataError, writing
from vlrl.families.resize import why_unfit
from vlrl.media.images import checked_size

Content = Path | str
"""A candidate: an image file, or text."""

MAX_JUDGED_CHARS = 200_000
"""Of a caption, and of an answer that is judged, with its reasoning."""


PreferenceFormat = Literal[
    "pairs",
    "hpd_v2",
    "pick_a_pic",
    "image_reward_db",
    "genai_bench",
    "vl_reward_bench",
    "reward_bench",
]


class PreferenceSource(Section):
    """Where preferences are. Example: {path: train.json, format: hpd_v2, image_root: train}."""

    path: str
    """A .json, .jsonl or .parquet file; or a `datasets` name, with `hub: true`."""
    format: PreferenceFormat = "pairs"
    image_root: str | None = None
    """Folder of the images; default: the file's own folder."""
    within_root: bool = False
    """Refuse absolute paths, `..` and links that lead out of that folder; otherwise they are
    followed."""
    check_images: bool = True
    """Raise where an image is damaged, or too long for every model."""
    unpack: str | None = None
    """Folder for images that the file holds as bytes; default: next to the file."""
    hub: bool = False
    subset: str | None = None
    split: str = "train"
    ties: Literal["drop", "keep"] = "drop"
    """Ties teach neither yes nor no; a benchmark keeps them."""
    limit: int | None = Field(default=None, gt=0)
    on_bad_row: Literal["error", "skip"] = "error"

    def folder(self) -> Path:
        """The folder that image paths are relative to."""
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
    """Images that belong to the question, where texts are judged."""
    criterion: str = ""
    kind: str = ""
    """The group it is reported in: the degradation, the category."""
    reasoning: str = ""
    """A rationale for this order, where the data has one."""
    group: str = ""
    """Rows of one group share their preferred candidate: one against many."""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> Content:
        """The preferred candidate; the first one of a tie."""
        return self.second if self.preferred == 2 else self.first

    @property
    def rejected(self) -> Content:
        """The other candidate."""
        return self.first if self.preferred == 2 else self.second


@dataclass(frozen=True)
class Reader:
    """Reads the fields of one row; errors name the row."""

    source: PreferenceSource
    where: str
    id: str

    def text(self, row: Row, *names: str) -> str:
        """The first of these fields that is present, a non-empty string."""
        for name in names:
            if row.get(name) is not None:
                value = row[name]
                if not isinstance(value, str) or not value.strip():
                    raise DataError(
                        f"{self.where}: field {name!r} must be a non-empty string, "
                        f"not {shown(value)}"
                    )
                return check_length(value.strip(), name, self.where, MAX_JUDGED_CHARS)
        raise DataError(f"{self.where}: field {names[0]!r} is missing; the row has {sorted(row)}")

    def image_file(self, value: object, name: str) -> Path:
        """An existing, whole file; bytes are unpacked into one, named by their hash.

        A list of one image is that image.
        """
        if isinstance(value, list | tuple):
            if len(value) != 1:
                raise DataError(
                    f"{self.where}: field {name!r} is a list of {len(value)} images; one is needed"
                )
            return self.image_file(value[0], name)
        if isinstance(value, Mapping) and (value.get("bytes") or value.get("path")):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes | bytearray):
            return self._whole(self._unpacked(bytes(value)), name)
        if not isinstance(value, str) or not value:
            kind = type(value).__name__
            raise DataError(
                f"{self.where}: field {name!r} must be an image file or bytes, not {kind}"
            )
        path = path_below(self.source.folder(), value, self.where, within=self.source.within_root)
        if not path.is_file():
            raise DataError(
                f"{self.where}: field {name!r}: there is no image {path}; check `image_root`"
            )
        return self._whole(path, name)

    def _whole(self, path: Path, name: str) -> Path:
        """The image's path after a cheap check that models can be shown it."""
        if not self.source.check_images:
            return path
        try:
            width, height = checked_size(path)
        except DataError as error:
            raise DataError(f"{self.where}: field {name!r}: {error}") from error
        why = why_unfit(height, width)
        if why is not None:
            raise DataError(f"{self.where}: field {name!r}: the image {path}: {why}; leave it out")
        return path

    def two(self, row: Row, name: str) -> list[Any]:
        """A field that is a list of two."""
        value = row.get(name)
        if not isinstance(value, list) or len(value) != 2:
            raise DataError(
                f"{self.where}: field {name!r} must be a list of two, not {shown(value)}"
            )
        return value

    def _unpacked(self, content: bytes) -> Path:
        source = self.source
        folder = Path(source.unpack or f"{source.path.replace('/', '__')}.images")
        if source.unpack is None and not source.hub:
            folder = Path(f"{source.path}.images")
        path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.img"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.partial")
            with writing(partial):
                partial.write_bytes(content)
            partial.replace(path)  # at once: after a kill, and with several ranks, too
        return path


RowReader = Callable[[Row, Reader], list[Preference]]
