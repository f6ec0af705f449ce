"""Frames of a video file, of a folder of images or of an array, read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vlrl.errors import DataError
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
    height_px: int
    fps: float | None


def read_frames(source: Source, frames: Sequence[int]) -> np.ndarray:
    """Frames by native index (rising), uint8 [n, H, W, 3], sRGB; raises DataError.

    source: a file that PyAV decodes, a folder of images in the order of their names, or a
    uint8 array [T, H, W, 3]. Files are decoded from their start, so an index is the exact
    frame, not a key frame near it. Up to two frames missing at the end repeat the last one.
    """
    if isinstance(source, np.ndarray):
        return np.stack([source[_inside(i, len(source), "the array")] for i in frames])
    path = Path(source)
    if path.is_dir():
        files = image_files(path)
        return np.stack([_open(files[_inside(i, len(files), str(path))]) for i in frames])
    if not path.is_file():
        # The decoder would open a URL too, so it only gets files that exist.
        raise DataError(f"there is no video file or folder of frames {path}")
    return _decode(path, frames)


def video_info(source: Source) -> VideoInfo:
    """Size, number of frames and rate; frames are counted if the container does not say."""
    if isinstance(source, np.ndarray):
        return VideoInfo(len(source), source.shape[2], source.shape[1], None)
    path = Path(source)
    if path.is_dir():
        files = image_files(path)
        first = _open(files[0])
        return VideoInfo(len(files), first.shape[1], first.shape[0], None)
    if not path.is_file():
        raise DataError(f"there is no video file or folder of frames {path}")
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            count = stream.frames or sum(1 for _ in container.decode(stream))
            rate = None if stream.average_rate is None else float(stream.average_rate)
            return VideoInfo(count, stream.codec_context.width, stream.codec_context.height, rate)
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as a video: {error}") from error


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names; raises DataError without any."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not files:
        raise DataError(f"{folder}: it contains no image")
    return files


def _open(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error


def _inside(index: int, count: int, where: str) -> int:
    if not 0 <= index < count + MAX_MISSING_FRAMES or count == 0:
        raise DataError(f"{where}: has {count} frames; frame {index} is out of range")
    return min(index, count - 1)


def _decode(path: Path, frames: Sequence[int]) -> np.ndarray:
    import av

    wanted, found, last = set(frames), {}, max(frames)
    count, newest = 0, None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for count, frame in enumerate(container.decode(stream), start=1):
                newest = frame
                if count - 1 in wanted:
                    found[count - 1] = frame.to_ndarray(format="rgb24")
                if count > last:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as a video: {error}") from error
    for index in sorted(wanted - set(found)):
        _inside(index, count, str(path))
        assert newest is not None
        found[index] = newest.to_ndarray(format="rgb24")
    return np.stack([found[index] for index in frames])


def read_part(part: VideoPart) -> np.ndarray:
    """The frames that a prompt shows, uint8 [n, H, W, 3]; raises DataError."""
    return read_frames(part.source, [part.first_frame + k for k in part.frames])
