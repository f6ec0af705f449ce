"""Frames of a video file, of a folder of images or of an array, read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlrl.errors import DataError
from vlrl.media.container import Container, container_of, opened, upright
from vlrl.media.images import checked_size, image_array
from vlrl.types import VideoPart

Source = str | Path | np.ndarray
"""A video file, a folder of images in the order of their names, or uint8 [T, H, W, 3]."""
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_MISSING_FRAMES = 2
"""Frames that may be missing at the end: containers' frame counts are often off by one."""


@dataclass(frozen=True)
class VideoInfo:
    """What a container says of its video; `fps` is None for folders and arrays."""

    num_frames: int
    width_px: int
    """Of the upright frames, as a player shows them."""
    height_px: int
    fps: float | None
    is_variable: bool = False
    """The frames are not evenly spaced in time: `num_frames` and `fps` then describe the even grid
    of times at which `read_frames` shows it."""


def read_frames(source: Source, frames: Sequence[int], fps: float | None = None) -> np.ndarray:
    """Frames by native index (rising), uint8 [n, H, W, 3], sRGB, upright; raises DataError.

    source: a file that PyAV decodes, a folder of images in the order of their names, or a
    uint8 array [T, H, W, 3]. Files are decoded from their start, so an index is the exact
    frame, not a key frame near it. Up to two frames missing at the end repeat the last one. In a
    file of variable rate an index is the time index / fps (the file's own rate for None), and the
    frame that is on screen then.
    """
    if isinstance(source, np.ndarray):
        return np.stack([source[_inside(i, len(source), "the array")] for i in frames])
    path = Path(source)
    if path.is_dir():
        files = image_files(path)
        return np.stack([image_array(files[_inside(i, len(files), str(path))]) for i in frames])
    facts = container_of(path)
    if facts.is_variable:
        indices = facts.at_times([i / (fps or facts.fps or 1.0) for i in frames])
        shown = _decode(path, sorted(set(indices)), facts)
        place = {index: row for row, index in enumerate(sorted(set(indices)))}
        return np.ascontiguousarray(shown[[place[index] for index in indices]])
    return _decode(path, frames, facts)


def video_info(source: Source) -> VideoInfo:
    """Size, number of frames and rate; frames are counted if the container does not say."""
    if isinstance(source, np.ndarray):
        return VideoInfo(len(source), source.shape[2], source.shape[1], None)
    path = Path(source)
    if path.is_dir():
        files = image_files(path)
        width, height = checked_size(files[0])
        return VideoInfo(len(files), width, height, None)
    facts = container_of(path)
    return VideoInfo(
        facts.num_frames, facts.width_px, facts.height_px, facts.fps, facts.is_variable
    )


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names; raises DataError without any."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not files:
        raise DataError(f"{folder}: it contains no image")
    return files


def _inside(index: int, count: int, where: str) -> int:
    if not 0 <= index < count + MAX_MISSING_FRAMES or count == 0:
        raise DataError(f"{where}: has {count} frames; frame {index} is out of range")
    return min(index, count - 1)


def _decode(path: Path, frames: Sequence[int], facts: Container) -> np.ndarray:
    wanted, found, last = set(frames), {}, max(frames)
    count, newest = 0, None
    with opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for count, frame in enumerate(container.decode(stream), start=1):
            newest = frame
            if count - 1 in wanted:
                found[count - 1] = frame.to_ndarray(format="rgb24")
            if count > last:
                break
        # Inside the block, so that a frame that cannot be converted is an error with the file too.
        for index in sorted(wanted - set(found)):
            _inside(index, count, str(path))
            assert newest is not None
            found[index] = newest.to_ndarray(format="rgb24")
    return np.stack([upright(found[index], facts) for index in frames])


def read_part(part: VideoPart) -> np.ndarray:
    """The frames that a prompt shows, uint8 [n, H, W, 3]; raises DataError."""
    return read_frames(part.source, [part.first_frame + k for k in part.frames], part.fps)
