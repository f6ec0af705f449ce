"""Where a split's questions are and which layout they have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vlrl.config.section import Section
from vlrl.reasoning.truths import Kind

Format = Literal[
    "rows",
    "easy_r1",
    "messages",
    "trl",
    "geometry3k",
    "vstar",
    "treebench",
    "reasonmap",
]


class ReasoningSource(Section):
    """One split's source. Example: {path: assets/maps/train.jsonl}."""

    path: str
    """A .json, .jsonl, .parquet or .tsv file, or a folder of them; with `hub` a `datasets` name."""
    format: Format = "rows"
    image_root: str | None = None
    """Folder of the images; default: the data file's own folder."""
    within_root: bool = False
    """Refuse absolute paths, `..` and links that lead out of that folder; otherwise they are
    followed."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Name in the layout to name in the file, e.g. {problem: question, images: picture}."""
    kind: Kind | Literal["auto"] = "auto"
    """What every answer of the source is; auto: as the row says, or by its answer."""
    absolute_tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Of numbers, in their own unit, where the row states no `tolerance`."""
    relative_tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of numbers, as a share of the true one; the larger tolerance counts."""
    check_images: bool = True
    """Raise where an image is damaged."""
    hub: bool = False
    subset: str | None = None
    """`hub`: the configuration's name."""
    split: str = "train"
    """`hub`: the split's name."""

    def folder(self) -> Path:
        """The folder that image paths are relative to."""
        if self.image_root is not None:
            return Path(self.image_root)
        path = Path(self.path)
        return path if path.is_dir() else path.parent
