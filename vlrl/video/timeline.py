"""What the numbers of an answer count: sampled frames, seconds or native frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlrl.media.frame_sampling import nearest_sample
from vlrl.video.tubes import Track, Tube, interpolated

Unit = Literal["sampled_frame", "second", "native_frame"]
Edges = Literal["around", "after"]


@dataclass(frozen=True)
class Timeline:
    """The index grid of one video's answers.

    An index covers more native frames than its own, so that a span on the grid is as long, on
    average, as the span that it was sampled from: those that are nearer to it than to another
    index (`around`), or those from its own to the one before the next index (`after`).
    """

    unit: Unit
    frames: tuple[int, ...]
    """Native indices of the sampled frames."""
    fps: float
    """Native frames a second."""
    num_frames: int
    """Native frames."""
    start_at: int = 0
    """What the first index is called: 0, or 1."""
    edges: Edges = "around"
    """Which native frames an index covers. `around` is right on average where events start
    anywhere between two samples, `after` where they start at samples."""

    @property
    def natives(self) -> tuple[int, ...]:
        """The native frame of every index, in order."""
        if self.unit == "sampled_frame":
            return self.frames
        if self.unit == "native_frame":
            return tuple(range(self.num_frames))
        seconds = math.ceil(self.num_frames / self.fps - 1e-6)
        return tuple(min(self.num_frames - 1, round(s * self.fps)) for s in range(seconds))

    @property
    def last(self) -> int:
        """The last index."""
        return self.start_at + len(self.natives) - 1

    def native(self, index: int) -> int:
        """The native frame of an index; indices off the grid are clamped to it."""
        natives = self.natives
        return natives[min(max(index - self.start_at, 0), len(natives) - 1)]

    def native_span(self, first: int, last: int) -> tuple[int, int]:
        """The native frames that a span of indices covers, both ends included."""
        natives = self.natives
        start, end = self.native(first), self.native(last)
        before, after = first - self.start_at - 1, last - self.start_at + 1
        if self.edges == "after":
            end = natives[after] - 1 if 0 <= after < len(natives) else self.num_frames - 1
        else:
            # Halfway to the neighbour; a frame in the middle goes to the later one.
            if 0 <= before < len(natives):
                start = (natives[before] + start) // 2 + 1
            end = (end + natives[after]) // 2 if 0 <= after < len(natives) else self.num_frames - 1
        return (min(start, self.native(first)), max(self.native(first), end))

    def on_grid(self, tube: Tube) -> Tube:
        """The true tube at the indices whose frame it covers.

        A tube between two indices (a short event at two frames a second) becomes one index: the
        nearest to its middle, with the box of the tube's nearest frame.
        """
        natives = self.natives
        inside = [k for k, frame in enumerate(natives) if tube.first <= frame <= tube.last]
        if not inside:
            inside = [nearest_sample(natives, (tube.first + tube.last) // 2)]
        boxes = np.stack([tube.near(natives[k]) for k in range(inside[0], inside[-1] + 1)])
        return Tube(self.start_at + inside[0], boxes, tube.frame)

    def on_native_frames(
        self, span: tuple[int, int], track: Track
    ) -> tuple[tuple[int, int], Track]:
        """A predicted span and its boxes on native frames: linear between the given boxes.

        Boxes of indices outside the span do not count, nor do those off the grid: they belong to no
        frame of the video.
        """
        first, last = self.native_span(*span)
        # An index off the grid has the native frame of an end, whose own box it would replace.
        start, end = max(span[0], self.start_at), min(span[1], self.last)
        inside = {self.native(k): box for k, box in track.boxes.items() if start <= k <= end}
        return (first, last), interpolated(Track(inside, track.frame), first, last)

    def seconds(self, index: float) -> float:
        """The time at which an index is shown, in seconds."""
        if self.unit == "second":
            return float(index - self.start_at)
        return self.native(int(index)) / self.fps
