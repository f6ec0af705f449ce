"""The embedded clips' own lines: one question a line, boxes by native frame.

{"id", "video", "width", "height", "fps", "num_frames", "sentence", "first_frame", "boxes": [[x1,
y1, x2, y2], ..], "kind", "twin", "occluded"}; frames are 0-based, boxes xyxy in pixels.
"""

from __future__ import annotations

from typing import Any

from vlrl.geometry.boxes import Frame
from vlrl.video.data.video_rows import (
    Entries,
    VideoRow,
    VideoSource,
    count_field,
    listed,
    number_field,
    text_field,
    tube_of,
    tube_seconds,
    video_path,
)

LABELS = ("kind", "twin", "occluded")


def entries(source: VideoSource) -> Entries:
    """The lines of a .jsonl file or .json list, each with its place."""
    return listed(source, read_row)


def read_row(source: VideoSource, row: Any, where: str) -> VideoRow:
    """One checked row; raises DataError that names the field."""
    width, height = count_field(row, "width", where, 1), count_field(row, "height", where, 1)
    num_frames = count_field(row, "num_frames", where, 1)
    fps = number_field(row, "fps", where, 1e-3)
    tube = tube_of(
        where,
        count_field(row, "first_frame", where),
        row.get("boxes"),
        Frame(width, height),
        num_frames=num_frames,
        clip_px=source.clip_px,
    )
    return VideoRow(
        id=text_field(row, "id", where),
        video=video_path(source, text_field(row, "video", where), where),
        width_px=width,
        height_px=height,
        fps=fps,
        num_frames=num_frames,
        sentence=text_field(row, "sentence", where),
        tube=tube,
        spans_s=tube_seconds(tube, fps),
        labels={name: str(row[name]) for name in LABELS if name in row},
        fields={key: value for key, value in row.items() if key != "boxes"},
    )
