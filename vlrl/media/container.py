"""What a video's container says: size, rotation, number of frames, and when each is shown."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vlrl.errors import DataError
from vlrl.media.images import SMALL_BYTES

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

SCANNED_BYTES = 64 << 20
"""Of files without an index of frames (mkv, webm, avi), so much is scanned for uneven times."""
UNEVEN_S = 0.1
"""Frames this far, and more than a frame, from their place on an even grid: a variable rate."""
MAX_VARIABLE_FPS = 60.0


@dataclass(frozen=True)
class Container:
    """Facts of a video file."""

    num_frames: int
    """Frames of the file; of a variable rate, of the even grid of `fps`."""
    width_px: int
    height_px: int
    fps: float | None
    quarter_turns: int
    """How often frames are turned by 90 degrees, counter-clockwise, to stand upright."""
    is_mirrored: bool = False
    """Whether left and right are exchanged before that."""
    times_s: tuple[float, ...] | None = None
    """When each frame is shown, of a variable rate; else None."""

    @property
    def is_variable(self) -> bool:
        """Whether the frames are not evenly spaced in time."""
        return self.times_s is not None

    def at_times(self, times_s: Sequence[float]) -> list[int]:
        """The frames on screen at these times, counted in the order in which they are shown."""
        assert self.times_s is not None
        # A small margin, since times such as 1/30 s are rounded in files.
        return [max(0, bisect_right(self.times_s, time + 1e-4) - 1) for time in times_s]


def container_of(path: Path) -> Container:
    """Facts of a video file, read once per process; raises DataError.

    The first frame is decoded; small files are decoded as a whole, so that damage is found.
    """
    if not path.is_file():
        # The decoder would open a URL or a pipe too, so it only gets files that exist.
        raise DataError(f"there is no video file or folder of frames {path}")
    status = path.stat()
    return _facts(path, status.st_size, status.st_mtime_ns)


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The container; whatever the decoder refuses in the block is a DataError."""
    import av

    try:
        with av.open(str(path)) as container:
            yield container
    except (av.FFmpegError, IndexError, ValueError, MemoryError) as error:
        raise DataError(
            f"{path}: cannot be read as a video: {error}; replace it or leave it out"
        ) from error


def upright(frame: np.ndarray, facts: Container) -> np.ndarray:
    """A frame as a player shows it; the same array where nothing is to turn."""
    if not facts.quarter_turns and not facts.is_mirrored:
        return frame
    seen = frame[:, ::-1] if facts.is_mirrored else frame
    return np.ascontiguousarray(np.rot90(seen, facts.quarter_turns))


@lru_cache(maxsize=65_536)
def _facts(path: Path, num_bytes: int, changed_ns: int) -> Container:
    with opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        decoded, turns, mirrored = 0, 0, False
        for frame in container.decode(stream):
            if not decoded:
                turns, mirrored = _turned(frame, path)
            decoded += 1
            if num_bytes > SMALL_BYTES and stream.frames:
                break
        if not decoded:
            raise DataError(f"{path}: has no frame that can be decoded; replace it or leave it out")
        num_frames = stream.frames or decoded
        rate = None if stream.average_rate is None else float(stream.average_rate)
        width, height = stream.codec_context.width, stream.codec_context.height
        unit = float(stream.time_base or 0)
        even = _is_even([entry.timestamp * unit for entry in stream.index_entries])
        complete = len(stream.index_entries) >= stream.frames > 0
    if turns % 2:
        width, height = height, width
    constant = Container(num_frames, width, height, rate, turns, mirrored)
    if complete and even:
        return constant
    if not complete and num_bytes > SCANNED_BYTES and _is_even(_times(path, SCANNED_BYTES)[0]):
        return constant
    shown, length_s = _times(path)
    if _is_even(shown):
        return constant
    gaps = np.diff(shown)
    fps = min(MAX_VARIABLE_FPS, round(1 / float(np.percentile(gaps[gaps > 0], 10)), 3))
    num_frames = max(1, round(length_s * fps))
    return Container(num_frames, width, height, fps, turns, mirrored, tuple(shown))


def _turned(frame: VideoFrame, path: Path) -> tuple[int, bool]:
    """Quarter turns, counter-clockwise, and whether the frame is mirrored before them."""
    found = cast("bytes | None", frame.side_data.get("DISPLAYMATRIX"))  # or any buffer
    if found is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(found, np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    turns = {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}.get(_signs(a, b))
    if turns is None:
        raise DataError(
            f"{path}: is turned by {frame.rotation} degrees; only quarter turns are read"
        )
    return turns, mirrored


def _signs(a: int, b: int) -> tuple[int, int]:
    """Signs of a direction, 0 for a part that is only rounding beside the other one."""
    small = 0.01 * max(abs(a), abs(b))
    first, second = (0 if abs(part) <= small else 1 if part > 0 else -1 for part in (a, b))
    return first, second


def _times(path: Path, num_bytes: int | None = None) -> tuple[list[float], float]:
    """When each frame is shown, from 0, and how long all of them take, in seconds.

    num_bytes: of so much of the file; None = all of it.
    """
    packets: list[tuple[float, float]] = []
    with opened(path) as container:
        stream: VideoStream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.pts is not None and packet.time_base is not None:
                unit = packet.time_base
                packets.append((float(packet.pts * unit), float((packet.duration or 0) * unit)))
            if num_bytes is not None and packet.pos is not None and packet.pos > num_bytes:
                break
    packets.sort()
    if not packets:
        return [], 0.0
    start, last = packets[0][0], packets[-1]
    before = packets[-2][0] if len(packets) > 1 else last[0]
    # Writers often give the last frame a length of their own; at least it is as long as the one
    # before it.
    length = last[0] + max(last[1], last[0] - before) - start
    return [time - start for time, _ in packets], length


def _is_even(times_s: Sequence[float]) -> bool:
    """Whether times lie on an even grid, but for rounding and single missing frames."""
    if len(times_s) < 3:
        return True
    times = np.sort(np.asarray(times_s, np.float64))
    step = (times[-1] - times[0]) / (len(times) - 1)
    off = np.abs(times - times[0] - step * np.arange(len(times))).max()
    return bool(off <= max(UNEVEN_S, step * 1.01))
