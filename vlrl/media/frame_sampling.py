"""Which frames of a video a model sees; pure functions of counts and rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vlrl.errors import DataError


def sample_frames(
    num_frames: int, native_fps: float, fps: float, max_frames: int | None = None
) -> tuple[int, ...]:
    """Indices of the frames shown at the times 0, 1/fps, 2/fps, ... s, from 0, rising.

    At most one sample per frame, so a video slower than `fps` is seen whole. Where more than
    `max_frames` would be taken, that many are spread evenly from the first frame to the last.
    Qwen's own loader spreads an even number of frames instead; its time step then differs from
    1/fps by up to a frame. Raises DataError for a video without frames or without a rate.
    """
    if num_frames < 1 or not native_fps > 0 or not math.isfinite(native_fps):
        raise DataError(f"a video of {num_frames} frames at {native_fps} frames per second")
    if not fps > 0 or (max_frames is not None and max_frames < 1):
        raise DataError(f"nothing to sample: fps {fps}, max_frames {max_frames}")
    step = max(1.0, native_fps / fps)
    # A small margin, so that 24.999999 is frame 25: rates such as 29.97 are rounded in files.
    num = math.ceil(num_frames / step - 1e-6)
    frames = [min(num_frames - 1, math.floor(k * step + 1e-6)) for k in range(num)]
    if max_frames is not None and len(frames) > max_frames:
        if max_frames == 1:
            return (0,)
        last = num_frames - 1
        frames = [round(k * last / (max_frames - 1)) for k in range(max_frames)]
    return tuple(frames)


def sampled_fps(frames: Sequence[int], native_fps: float) -> float:
    """Frames per second of the sampled ones, which the model gets as the frame rate."""
    if len(frames) < 2:
        return native_fps
    return native_fps * (len(frames) - 1) / (frames[-1] - frames[0])


def nearest_sample(frames: Sequence[int], frame: int) -> int:
    """The place in `frames` that is nearest to a native frame, the earlier one of two."""
    return min(range(len(frames)), key=lambda k: (abs(frames[k] - frame), k))
