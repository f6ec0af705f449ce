"""Whether a video's file is what a row says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlrl.errors import DataError
from vlrl.geometry.boxes import Frame
from vlrl.media.video import MAX_MISSING_FRAMES, VideoInfo, video_info

MAX_RATE_CHANGE = 0.02
"""Between a row and its file, relative: rates are rounded, or counts over a clip's length."""
MAX_FURTHER_FRAMES = 0.05
"""How many more frames than stated a whole video may have, relative."""


@dataclass(frozen=True)
class Stated:
    """What a row says of its video."""

    frame: Frame
    fps: float | None
    """None where the row does not say it."""
    num_frames: int
    """Of the clip."""
    first_frame: int
    """Where the clip begins in the file."""
    is_whole: bool
    """Whether the clip is the whole file."""


def check_video(path: str, stated: Stated, where: str) -> None:
    """Raise DataError where the file is damaged or is not as stated."""
    info = facts_of(path, where)
    width, height = info.width_px, info.height_px
    if not _is_same_shape(stated.frame, Frame(width, height)):
        raise DataError(
            f"{where}: says {stated.frame.width:g} x {stated.frame.height:g} px, the video {path} "
            f"is {width} x {height} (upright, as a player shows it): its boxes would be taken for "
            "other places; correct the row or the video"
        )
    if info.is_variable:
        raise DataError(
            f"{where}: the frames of the video {path} are not evenly spaced in time, so that the "
            "number of a frame does not say when it is shown; re-encode it with a constant rate or "
            "leave it out"
        )
    if info.fps and stated.fps and abs(info.fps / stated.fps - 1) > MAX_RATE_CHANGE:
        raise DataError(
            f"{where}: says {stated.fps:g} frames a second, the video {path} has {info.fps:g}; "
            "correct the row or the video"
        )
    last = stated.first_frame + stated.num_frames
    further = max(MAX_MISSING_FRAMES, MAX_FURTHER_FRAMES * last)
    if info.num_frames < last - MAX_MISSING_FRAMES or (
        stated.is_whole and info.num_frames > last + further
    ):
        raise DataError(
            f"{where}: says {last} frames, the video {path} has {info.num_frames}; correct the row "
            "or the video"
        )


def _is_same_shape(stated: Frame, found: Frame) -> bool:
    """Whether frames are as stated, or a smaller or larger copy: boxes then keep their places."""
    scale = found.width / stated.width
    # Copies have sides of whole, often even, pixels.
    return abs(found.height - stated.height * scale) <= (0 if scale == 1 else 2)


def probed(path: str, where: str) -> tuple[int, float, int, int]:
    """Number of frames, rate, width and height of a video file; DataError without a rate."""
    info = facts_of(path, where)
    if info.fps is None:
        raise DataError(f"{where}: {path} does not say how many frames it has a second")
    return info.num_frames, info.fps, info.width_px, info.height_px


def facts_of(path: str, where: str) -> VideoInfo:
    """What the file says; raises DataError with the place of the row."""
    try:
        return video_info(Path(path))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
