"""HC-STVG as TubeDETR's preprocessing writes it (`train_proc.json`, `valv2_proc.json`, ...).

[{"original_video_id", "video_path", "frame_count", "width", "height", "tube_start_frame": 1-based
as in the annotation, "tube_end_frame": the first frame after the tube, in the same count,
"caption", "video_id", "trajectory": [[x, y, w, h], ..]}]

TubeDETR uses these numbers as 0-based ones, one frame late; `published_start: true` does the same.
"""

from __future__ import annotations

from vlrl.data.fields import Row
from vlrl.errors import DataError
from vlrl.video.data.hcstvg import SECONDS, corners
from vlrl.video.data.video_rows import (
    Entries,
    VideoRow,
    VideoSource,
    count_field,
    frame_of,
    listed,
    row_with_tube,
    text_field,
)


def entries(source: VideoSource) -> Entries:
    """The rows in the file's order, each with its place."""
    return listed(source, read_row)


def read_row(source: VideoSource, row: Row, where: str) -> VideoRow:
    """One checked row; raises DataError that names the field."""
    num_frames = count_field(row, "frame_count", where, 1)
    start, end = (count_field(row, f"tube_{which}_frame", where) for which in ("start", "end"))
    boxes = corners(row.get("trajectory"), where)
    if end - start != len(boxes):
        raise DataError(
            f"{where}: the tube has the frames {start} to {end - 1} and {len(boxes)} boxes"
        )
    if not source.published_start and start < 1:
        raise DataError(f"{where}: field 'tube_start_frame' counts from 1, not {start}")
    own = text_field(row, "original_video_id", where)
    return row_with_tube(
        source,
        where,
        id=own,
        video=str(row.get("video_path") or f"{own}.mp4"),
        frame=frame_of(row, where),
        fps=num_frames / SECONDS,
        num_frames=num_frames,
        sentence=text_field(row, "caption", where),
        first=start if source.published_start else start - 1,
        boxes=boxes,
        fields={key: value for key, value in row.items() if key != "trajectory"},
    )
