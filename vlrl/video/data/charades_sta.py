"""Charades-STA and files like it: `VIDEO start end##sentence`, seconds, no boxes.

Rate, length and size come from the videos. 14 % of the training pairs end after their video: the
task clips them to it, truth and answers alike. Empty and reversed spans are bad rows.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from vlrl.data.fields import check_length, shown
from vlrl.data.json_file import read_text
from vlrl.errors import ConfigError, DataError
from vlrl.video.data.video_files import probed
from vlrl.video.data.video_rows import Entries, VideoRow, VideoSource, video_path

LINE = re.compile(r"(\S++) ([0-9]+(?:\.[0-9]+)?) ([0-9]+(?:\.[0-9]+)?) ?##(.*+)")


def entries(source: VideoSource) -> Entries:
    """The lines in the file's order, each with its place."""
    if not source.check_videos:
        raise ConfigError(
            "format charades_sta reads rate and length from the videos: check_videos must stay true"
        )
    for number, line in enumerate(read_text(Path(source.path)).split("\n"), start=1):
        if line.strip():
            where = f"{source.path}, line {number}"
            yield where, partial(read_row, source, line.strip(), number, where)


def read_row(source: VideoSource, line: str, number: int, where: str) -> VideoRow:
    """One checked line; raises DataError."""
    match = LINE.fullmatch(line)
    if match is None or not match[4].strip():
        raise DataError(f"{where}: a line must be `VIDEO start end##sentence`, not {shown(line)}")
    start, end = float(match[2]), float(match[3])
    if end <= start:
        raise DataError(f"{where}: the span {start:g} to {end:g} s has no length")
    path = video_path(source, f"{match[1]}.mp4", where)
    num_frames, fps, width, height = probed(path, where)
    if start >= num_frames / fps:
        raise DataError(f"{where}: starts at {start:g} s, the video has {num_frames / fps:.2f} s")
    return VideoRow(
        id=f"{match[1]}-{number}",
        video=path,
        width_px=width,
        height_px=height,
        fps=fps,
        num_frames=num_frames,
        sentence=check_length(match[4].strip(), "sentence", where),
        tube=None,
        spans_s=((start, end),),
        fields={"video": match[1]},
    )
