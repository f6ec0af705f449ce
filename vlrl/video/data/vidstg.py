"""VidSTG's sentences with the boxes of VidOR: declarative and interrogative, any object.

`path` is VidSTG's file (`test_annotations.json`: a list of entries with `captions` and
`questions`), `trajectories` the folder of VidOR's JSON files, searched with its subfolders.

Frames are 0-based. The last frame of `temporal_gt` is the first one *after* the span: it equals
the number of frames in a sixth of all entries. CG-STVG takes it as belonging to the span
(`end_included`), cut to the used segment; where the video goes on after that, it leaves the entry
out: a bad row. The clip is the used segment, with its own last frame.
An entry whose object has no box in a frame of the span is a bad row ("spoiled" in CG-STVG); with
`end_included`, a last frame without one repeats the box before it, as CG-STVG does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from vlrl.data.fields import Row, row_of, shown
from vlrl.data.json_file import read_json, read_json_rows
from vlrl.errors import ConfigError, DataError
from vlrl.video.data.video_rows import (
    Entries,
    VideoRow,
    VideoSource,
    count_field,
    frame_of,
    number_field,
    row_with_tube,
    text_field,
)

KINDS = {"captions": "declarative", "questions": "interrogative"}


def entries(source: VideoSource) -> Entries:
    """Every sentence of every entry, in the file's order, each with its place."""
    if source.trajectories is None:
        raise ConfigError(
            "format vidstg: `trajectories` names the folder of VidOR's annotations: VidSTG's own "
            "files hold no boxes"
        )
    for number, row in enumerate(read_json_rows(Path(source.path)), start=1):
        place = f"{source.path}, row {number}"
        if not isinstance(row, Mapping):
            yield place, partial(_refuse, f"{place}: a row is a JSON object, not {shown(row)}")
            continue
        for kind in KINDS:
            sentences = row.get(kind, [])
            if not isinstance(sentences, list):
                why = f"{place}: field {kind!r} must be a list, not {shown(sentences)}"
                yield place, partial(_refuse, why)
                continue
            for index, sentence in enumerate(sentences):
                where = f"{place}, {kind}[{index}]"
                own = f"{number}-{kind[:-1]}-{index}"
                yield where, partial(read_row, source, row, sentence, kind, own, where)


def _refuse(why: str) -> VideoRow:
    raise DataError(why)


def read_row(
    source: VideoSource, row: Row, sentence: object, kind: str, own: str, where: str
) -> VideoRow:
    """One checked sentence; raises DataError that names the field."""
    vid = text_field(row, "vid", where)
    used, span = row.get("used_segment"), row.get("temporal_gt")
    begin, used_end = (count_field(used, f"{w}_fid", f"{where}, used_segment") for w in BOTH)
    first, end = (count_field(span, f"{w}_fid", f"{where}, temporal_gt") for w in BOTH)
    last = min(end, used_end) if source.end_included else end - 1
    if not begin <= first <= last:
        raise DataError(
            f"{where}: temporal_gt {first} to {end} does not lie in used_segment from {begin} on"
        )
    if source.end_included and last + 1 != min(end + 1, count_field(row, "frame_count", where, 1)):
        raise DataError(
            f"{where}: temporal_gt ends at frame {end}, used_segment at {used_end}: CG-STVG leaves "
            "such entries out (on_bad_row: skip)"
        )
    tid = count_field(sentence, "target_id", where)
    return row_with_tube(
        source,
        where,
        id=f"{vid}-{own}",
        video=f"{vid}.mp4",
        frame=frame_of(row, where),
        fps=number_field(row, "fps", where, 1e-3),
        num_frames=max(used_end, last) - begin + 1,
        sentence=text_field(sentence, "description", where),
        first=first - begin,
        boxes=_boxes(source, vid, tid, first, last, where),
        first_frame=begin,
        labels={"question": KINDS[kind], "object": _category(row, tid, where)},
        fields={"vid": vid, "target_id": tid, "type": row_of(sentence, where).get("type")},
    )


BOTH = ("begin", "end")
EDGES = ("xmin", "ymin", "xmax", "ymax")


def _boxes(
    source: VideoSource, vid: str, tid: int, first: int, last: int, where: str
) -> list[list[float]]:
    trajectories = _vidor(str(source.trajectories), vid)
    found: list[list[float]] = []
    for frame in range(first, last + 1):
        objects = trajectories[frame] if frame < len(trajectories) else []
        place = f"{where}: frame {frame} of {vid}.json"
        box = next((one.get("bbox") for one in _objects(objects) if one.get("tid") == tid), None)
        if box is not None:
            found.append([number_field(box, edge, place, -math.inf) for edge in EDGES])
        elif source.end_included and frame == last and found:
            found.append(found[-1])
        else:
            raise DataError(f"{where}: object {tid} has no box in frame {frame} of {vid}")
    return found


@lru_cache(maxsize=4)
def _vidor(folder: str, vid: str) -> list[Any]:
    """The objects of every frame of a video; cached for a few, as entries come video by video."""
    path = _vidor_files(folder).get(vid)
    if path is None:
        raise DataError(f"{folder}: no {vid}.json there or below")
    data = read_json(Path(path))
    trajectories = data.get("trajectories") if isinstance(data, Mapping) else None
    if not isinstance(trajectories, list):
        raise DataError(f"{path}: field 'trajectories' must be a list of frames")
    return trajectories


@lru_cache(maxsize=4)
def _vidor_files(folder: str) -> dict[str, str]:
    return {path.stem: str(path) for path in sorted(Path(folder).rglob("*.json"))}


def _objects(value: object) -> list[Row]:
    """The objects of a frame or an entry; what is none is left out, and missed where it counts."""
    found = value if isinstance(value, list) else []
    return [one for one in found if isinstance(one, Mapping)]


def _category(row: Row, tid: int, where: str) -> str:
    for one in _objects(row.get("subject/objects")):
        if one.get("tid") == tid:
            return str(one.get("category", ""))
    raise DataError(f"{where}: object {tid} is not among 'subject/objects'")
