"""The embedded clips' own format: one question per line, boxes by native frame.

{"id", "video", "width", "height", "fps", "num_frames", "sentence", "first_frame", "boxes": [[x1,
y1, x2, y2], ..], "kind", "twin", "occluded"}; frames are 0-based, boxes xyxy in pixels.
"""

from __future__ import annotations

from vlrl.data.fields import Row
from vlrl.video.data.video_rows import (
    Entries,
    VideoRow,
    VideoSource,
    count_field,
    frame_of,
    listed,
    number_field,
    row_with_tube,
    text_field,
)

LABELS = ("kind", "twin", "occluded")


def entries(source: VideoSource) -> Entries:
    """The lines of a .jsonl file or .json list, each with its place."""
    return listed(source, read_row)


def read_row(source: VideoSource, row: Row, where: str) -> VideoRow:
    """One checked row; raises DataError that names the field."""
    return row_with_tube(
        source,
        where,
        id=text_field(row, "id", where),
        video=text_field(row, "video", where),
        frame=frame_of(row, where),
        fps=number_field(row, "fps", where, 1e-3),
        num_frames=count_field(row, "num_frames", where, 1),
        sentence=text_field(row, "sentence", where),
        first=count_field(row, "first_frame", where),
        boxes=row.get("boxes"),
        labels={name: str(row[name]) for name in LABELS if name in row},
        fields={key: value for key, value in row.items() if key != "boxes"},
    )
