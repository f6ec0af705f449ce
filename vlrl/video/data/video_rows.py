"""Videos with a sentence and what it means: the row that all readers of video data return."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from vlrl.config.section import Section
from vlrl.data.collect import Rows, collect
from vlrl.data.fields import Row, check_length, row_of, shown
from vlrl.data.json_file import read_json_rows
from vlrl.data.paths import path_below
from vlrl.errors import ConfigError, DataError
from vlrl.geometry.boxes import Frame
from vlrl.video.data.video_files import Stated, check_video
from vlrl.video.spans import Interval
from vlrl.video.tubes import Tube

VideoFormat = Literal[
    "clips", "hcstvg", "hcstvg_tubedetr", "hcstvg_cgstvg", "vidstg", "charades_sta"
]
READERS: dict[str, str] = {
    "clips": "vlrl.video.data.clips",
    "hcstvg": "vlrl.video.data.hcstvg",
    "hcstvg_tubedetr": "vlrl.video.data.hcstvg_tubedetr",
    "hcstvg_cgstvg": "vlrl.video.data.hcstvg_cgstvg",
    "vidstg": "vlrl.video.data.vidstg",
    "charades_sta": "vlrl.video.data.charades_sta",
}
"""Modules with `entries(source)`: pairs of a location and a function that gives the checked row."""
VIDEO_ENDINGS = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v")

Entries = Iterator[tuple[str, Callable[[], "VideoRow"]]]


class VideoSource(Section):
    """One split's source. Example: {path: assets/clips/train.jsonl, format: clips}."""

    path: str
    """The annotation file."""
    format: VideoFormat = "clips"
    video_root: str | None = None
    """Folder of the videos, or of folders of frames; default: the file's own folder."""
    trajectories: str | None = None
    """vidstg: folder of VidOR's annotations, searched with its subfolders."""
    within_root: bool = False
    """Refuse absolute paths, `..` and links that lead out of the videos' folder; otherwise they
    are followed."""
    check_videos: bool = True
    """Raise where a video is missing, is damaged, or is not as the row says (size, rate, number
    of frames). charades_sta reads rate and length in the videos."""
    published_start: bool = False
    """hcstvg, hcstvg_tubedetr: take the 1-based first frame as 0-based, as TubeDETR does."""
    end_included: bool = False
    """vidstg: the last frame of a span belongs to it, as in CG-STVG; else it is the first one
    after the span, as in TubeDETR and by the frame counts."""
    clip_px: float = Field(0.0, ge=0, le=20)
    """How far a box may exceed its image, in pixels; it is then clipped to the image."""

    def folder(self) -> Path:
        """The folder that video paths are relative to."""
        return Path(self.path).parent if self.video_root is None else Path(self.video_root)

    def unused(self) -> list[str]:
        """Options that are set but that this format does not use."""
        own = {
            "vidstg": {"trajectories", "end_included"},
            "hcstvg": {"published_start"},
            "hcstvg_tubedetr": {"published_start"},
        }
        known = {"path", "format", "video_root", "within_root", "check_videos", "clip_px"}
        given = set(self.model_dump(exclude_defaults=True))
        return sorted(given - known - own.get(self.format, set()))


@dataclass(frozen=True)
class VideoRow:
    """One checked question about a video."""

    id: str
    video: str
    """Path of the file or of the folder of frames."""
    width_px: int
    height_px: int
    fps: float
    """Native frames per second."""
    num_frames: int
    """Native frames, from the first one of the clip on."""
    sentence: str
    tube: Tube | None
    """True boxes on native frames, 0-based, in pixels; None where only times are known."""
    spans_s: tuple[Interval, ...]
    """True spans in seconds; those of the tube where there is one."""
    first_frame: int = 0
    """Where the clip begins in the file; the tube counts from there."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What reports group by."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the row."""


def read_videos(
    source: VideoSource,
    *,
    on_bad_row: Literal["error", "skip"],
    limit: int | None,
    check: Callable[[VideoRow], None] | None = None,
) -> Rows[VideoRow]:
    """The checked rows of a split, at most `limit` good ones.

    check: what else a good row must pass; raises DataError. A bad row raises DataError, or with
    `skip` is listed in `skipped`.
    """
    unused = source.unused()
    if unused:
        raise ConfigError(f"format {source.format!r} has no use for {', '.join(unused)}; remove")
    module = importlib.import_module(READERS[source.format])
    return collect(
        module.entries(source), source.path, limit=limit, on_bad_row=on_bad_row, check=check
    )


def video_path(source: VideoSource, name: str, where: str) -> str:
    """The video's file or folder of frames; DataError where `check_videos` finds none.

    Looked up by its name and then, since published sets mix extensions and nest folders, by
    its name without extension, in the folder and one level below.
    """
    path = path_below(source.folder(), name, where, within=source.within_root)
    if path.exists():
        return str(path)
    found = _listing(source.folder()).get(Path(name).stem)
    if found is not None and source.within_root:
        path_below(
            source.folder(), str(Path(found).relative_to(source.folder())), where, within=True
        )
    if found is None and source.check_videos:
        raise DataError(f"{where}: there is no video {path} (video_root, check_videos)")
    return found or str(path)


@lru_cache(maxsize=16)
def _listing(folder: Path) -> dict[str, str]:
    """Videos and folders of frames by name without extension; the first one in order counts."""
    found: dict[str, str] = {}
    if folder.is_dir():
        for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
            if path.is_dir() or path.suffix.lower() in VIDEO_ENDINGS:
                found.setdefault(path.stem if path.is_file() else path.name, str(path))
    return found


def tube_of(
    where: str,
    first: int,
    boxes: object,
    frame: Frame,
    *,
    num_frames: int,
    clip_px: float,
) -> Tube:
    """A checked tube from xyxy boxes in pixels; DataError names the frame that is wrong."""
    try:
        rows = np.array(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: boxes must be lists of four numbers: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
        raise DataError(
            f"{where}: boxes must be lists of four numbers, one per frame; found {rows.shape}"
        )
    last = first + len(rows) - 1
    if first < 0 or last >= num_frames:
        raise DataError(
            f"{where}: the tube has the frames {first} to {last}, but the clip has {num_frames}"
        )
    width, height = frame.extent
    beyond = max(
        float(-rows[:, :2].min()),
        float((rows[:, 2] - width).max()),
        float((rows[:, 3] - height).max()),
    )
    if beyond > clip_px + 1e-6:
        raise DataError(
            f"{where}: a box exceeds its image of {width:g} x {height:g} by {beyond:g} px; allow "
            "it with `clip_px`"
        )
    rows = np.clip(rows, 0.0, np.array([width, height, width, height]))
    tube = Tube(first, rows, frame)
    bad = tube.bad_frames()
    if bad:
        box = tube.at(bad[0]).tolist()
        raise DataError(f"{where}: the box of frame {bad[0]} is empty or inverted: {box}")
    return tube


def row_with_tube(
    source: VideoSource,
    where: str,
    *,
    id: str,
    video: str,
    frame: Frame,
    fps: float,
    num_frames: int,
    sentence: str,
    first: int,
    boxes: object,
    first_frame: int = 0,
    labels: Mapping[str, str] | None = None,
    fields: Mapping[str, Any],
) -> VideoRow:
    """A row whose boxes are known, checked; raises DataError.

    video: its name below the source's folder. first: frame of the first box, 0-based. boxes: xyxy
    in pixels, one per frame.
    """
    tube = tube_of(where, first, boxes, frame, num_frames=num_frames, clip_px=source.clip_px)
    path = video_path(source, video, where)
    if source.check_videos:
        # HC-STVG states no rate: all its clips are taken to last 20 s.
        rate = None if source.format.startswith("hcstvg") else fps
        stated = Stated(frame, rate, num_frames, first_frame, is_whole=source.format != "vidstg")
        check_video(path, stated, where)
    return VideoRow(
        id=id,
        video=path,
        width_px=int(frame.width),
        height_px=int(frame.height),
        fps=fps,
        num_frames=num_frames,
        sentence=check_length(sentence, "sentence", where),
        tube=tube,
        spans_s=tube_seconds(tube, fps),
        first_frame=first_frame,
        labels=labels or {},
        fields=fields,
    )


def frame_of(row: Row, where: str) -> Frame:
    """The size of the video's frames in pixels; raises DataError."""
    return Frame(count_field(row, "width", where, 1), count_field(row, "height", where, 1))


def tube_seconds(tube: Tube, fps: float) -> tuple[Interval, ...]:
    """The tube's span in seconds: from its first frame's start to its last one's end."""
    return ((tube.first / fps, (tube.last + 1) / fps),)


def number_field(row: object, name: str, where: str, low: float = 0.0) -> float:
    """A finite number of a row, at least `low`; raises DataError."""
    value = row.get(name) if isinstance(row, Mapping) else None
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or float(value or 0) < low:
        raise DataError(
            f"{where}: field {name!r} must be a number of at least {low:g}, not {shown(value)}"
        )
    return float(value or 0)


def count_field(row: object, name: str, where: str, low: int = 0) -> int:
    """A whole number of a row, at least `low`; raises DataError."""
    value = number_field(row, name, where, low)
    if value != int(value):
        raise DataError(f"{where}: field {name!r} must be a whole number, not {shown(value)}")
    return int(value)


def text_field(row: object, name: str, where: str) -> str:
    """A non-empty string of a row; raises DataError."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field {name!r} must be a non-empty string, not {shown(value)}")
    return value.strip()


def listed(source: VideoSource, read_row: Callable[[VideoSource, Row, str], VideoRow]) -> Entries:
    """The rows of a .jsonl file or .json list in the file's order, each with its place."""
    for number, row in enumerate(read_json_rows(Path(source.path)), start=1):
        where = f"{source.path}, row {number}"
        yield where, partial(_checked, read_row, source, row, where)


def _checked(
    read_row: Callable[[VideoSource, Row, str], VideoRow],
    source: VideoSource,
    row: object,
    where: str,
) -> VideoRow:
    return read_row(source, row_of(row, where), where)
