"""Where a split's data is and how its boxes are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vlrl.config.section import Section
from vlrl.gui.data.leave_out import LeaveOutOptions
from vlrl.gui.data.rows import Convention

Format = Literal[
    "screens",
    "gui_g2",
    "gui_g1",
    "screenspot",
    "screenspot_pro",
    "osworld_g",
    "osworld_g_mai",
    "osworld_g_mai_verbatim",
    "mmbench_gui",
    "ui_vision",
    "ui_vision_layout",
    "os_atlas",
    "showui",
    "uground",
    "aguvis",
    "jedi",
    "gta1",
    "se_gui",
    "gui_r1",
    "ui_r1",
    "infigui",
    "groundcua",
    "scalecua",
    "omniact",
    "amex",
    "rows",
    "hub",
]

COMMON = (
    "path", "format", "image_root", "within_root", "box", "check_images", "clip_px",
    "point_side_px", "leave_out",
)  # fmt: skip
"""Options of every format."""


class SourceOptions(Section):
    """One split's source. Example: {path: assets/screens/train.jsonl, format: screens}."""

    path: str
    """A file or folder; for `hub` a `datasets` name."""
    format: Format = "screens"
    image_root: str | None = None
    """Folder of the images; default: the data file's own folder."""
    box: Convention | None = None
    """How boxes are written; needed for `rows` and `hub`, else the format's own."""
    columns: dict[str, str] = Field(default_factory=dict)
    """`rows` and `hub`: our field name to theirs, e.g. {instruction: problem, box: solution}."""
    subset: str | None = None
    """`hub`: the configuration's name."""
    split: str = "train"
    """`hub`: the split's name."""
    within_root: bool = False
    """Refuse absolute paths, `..` and links that lead out of the images' folder; otherwise they
    are followed."""
    check_images: bool = True
    clip_px: Annotated[float, Field(ge=0, le=5)] = 0.0
    """How far a box may exceed its image, in pixels; it is then clipped to the image."""
    point_side_px: Annotated[float, Field(gt=0)] | None = None
    """Side of the square that is the target of a row with a point alone, in pixels of the image;
    by default such rows are left out and counted."""
    leave_out: LeaveOutOptions | None = None
    """Small, ambiguous or repeated targets to leave out, which are counted."""

    def folder(self) -> Path:
        """The folder that image paths are relative to."""
        if self.image_root is not None:
            return Path(self.image_root)
        path = Path(self.path)
        return path if path.is_dir() else path.parent

    def unused(self) -> list[str]:
        """Options that are set but that this format does not use."""
        given = self.model_dump(exclude_defaults=True)
        mapped: set[str] = {"columns"} if self.format in ("rows", "hub") else set()
        hub: set[str] = {"subset", "split"} if self.format == "hub" else set()
        known: set[Any] = {*COMMON}
        return sorted(set(given) - known - mapped - hub)
