"""HC-STVG, versions 1 and 2, as published: one sentence per 20 s video, always on a person.

{"55_vfjywN5CN0Y.mp4": {"bbox": [[x, y, w, h], ..] pixels, one per native frame, "st_frame": 1-based
number, "img_num", "width", "height", "caption", "st_time", "ed_time"}}; version 2 has `English` for
the caption and `img_size`: [height, width].

The tube is st_frame with as many frames as there are boxes. `ed_time` is not used: it disagrees
with the number of boxes in places. TubeDETR takes the 1-based `st_frame` as 0-based
(`published_start`), CG-STVG subtracts 1, as is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from vlrl.data.fields import Row, row_of, shown
from vlrl.data.json_file import read_json
from vlrl.errors import DataError
from vlrl.geometry.boxes import Frame
from vlrl.video.data.video_rows import (
    Entries,
    VideoRow,
    VideoSource,
    count_field,
    frame_of,
    row_with_tube,
    text_field,
)

SECONDS = 20
"""Length of every clip; `img_num` is the rate times it."""


def entries(source: VideoSource) -> Entries:
    """The videos in the file's order, each with its place."""
    rows = read_json(Path(source.path))
    if not isinstance(rows, Mapping):
        raise DataError(f"{source.path}: holds a {type(rows).__name__}, not videos by name")
    for name, row in rows.items():
        where = f"{source.path}, {name!r}"
        yield where, partial(read_row, source, name, row, where)


def read_row(source: VideoSource, name: str, value: object, where: str) -> VideoRow:
    """One checked video; raises DataError that names the field."""
    row = row_of(value, where)
    num_frames = count_field(row, "img_num", where, 1)
    offset = 0 if source.published_start else 1
    caption = "English" if "English" in row and "caption" not in row else "caption"
    return row_with_tube(
        source,
        where,
        id=name,
        video=name,
        frame=image_size(row, where),
        fps=num_frames / SECONDS,
        num_frames=num_frames,
        sentence=text_field(row, caption, where),
        first=count_field(row, "st_frame", where, offset) - offset,
        boxes=corners(row.get("bbox"), where),
        fields={key: value for key, value in row.items() if key != "bbox"},
    )


def image_size(row: Row, where: str) -> Frame:
    """The frames' size, from `width` and `height` or from version 2's `img_size`."""
    size = row.get("img_size")
    if size is None:
        return frame_of(row, where)
    if not isinstance(size, list) or len(size) < 2:
        raise DataError(f"{where}: field 'img_size' must be [height, width], not {shown(size)}")
    return frame_of({"height": size[0], "width": size[1]}, where)


def corners(boxes: object, where: str) -> list[list[float]]:
    """xyxy boxes from [x, y, w, h]; raises DataError for anything else."""
    if not isinstance(boxes, list) or not boxes:
        raise DataError(f"{where}: boxes must be a list of [x, y, w, h], not {shown(boxes)}"[:200])
    found = []
    for place, box in enumerate(boxes):
        good = (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)
        )
        if not good:
            raise DataError(f"{where}: box {place} must be [x, y, w, h], not {shown(box)}")
        found.append([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    return found
