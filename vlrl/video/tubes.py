"""A box in every frame of a span: what is true, what is predicted, and how they overlap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlrl.geometry.boxes import Box, Frame, giou, iou

Edges = tuple[float, float, float, float]


@dataclass(frozen=True)
class Tube:
    """One box for each frame from `first` on, both ends of the span included."""

    first: int
    boxes: np.ndarray
    """xyxy, [n, 4], n >= 1."""
    frame: Frame
    """The coordinates that the boxes are in."""

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or not len(self.boxes):
            raise ValueError(f"a tube holds boxes [n, 4], not {self.boxes.shape}")

    @property
    def last(self) -> int:
        """The last frame that has a box."""
        return self.first + len(self.boxes) - 1

    @property
    def span(self) -> tuple[int, int]:
        """First and last frame."""
        return (self.first, self.last)

    def at(self, frame: int) -> np.ndarray:
        """The box of a frame of the span, [4]."""
        return self.boxes[frame - self.first]

    def near(self, frame: int) -> np.ndarray:
        """The box of a frame, or that of the nearer end outside the span, [4]."""
        return self.boxes[min(max(frame, self.first), self.last) - self.first]

    def bad_frames(self) -> list[int]:
        """Frames whose box is empty, inverted, not finite or off the image."""
        return [
            self.first + k
            for k, row in enumerate(self.boxes.tolist())
            if not Box(row[0], row[1], row[2], row[3], self.frame).is_valid
        ]


@dataclass(frozen=True)
class Track:
    """Predicted boxes by frame, as an answer gives them: there may be gaps, and bad boxes."""

    boxes: Mapping[int, Edges]
    frame: Frame

    def valid(self) -> Track:
        """Only the boxes that can be compared (`Box.is_valid`)."""
        good = {k: box for k, box in self.boxes.items() if Box(*box, self.frame).is_valid}
        return self if len(good) == len(self.boxes) else Track(good, self.frame)

    def to(self, frame: Frame) -> Track:
        """The same boxes in another frame of the same image."""
        if frame == self.frame:
            return self
        moved = {k: Box(*box, self.frame).to(frame).xyxy for k, box in self.boxes.items()}
        return Track(moved, frame)


def overlap_frames(one: tuple[int, int], other: tuple[int, int]) -> range:
    """The frames of both spans."""
    return range(max(one[0], other[0]), min(one[1], other[1]) + 1)


def frame_scores(
    track: Track,
    true: Tube,
    frames: Sequence[int],
    *,
    giou_weight: float = 1.0,
    l1_weight: float = 1.0,
    missing: float | None,
) -> list[float]:
    """GIoU minus L1 distance of the boxes of some frames (STVG-o1), in [-5, 1] with weights of 1.

    L1 is the sum of the four edges' distances in the unit frame, so at most 4: in pixels it would
    dominate the GIoU. Boxes are clipped to the image first. A frame without a valid box scores
    `missing`; with None it is left out.
    """
    unit = Frame(1, 1)
    boxes = track.valid().to(unit).boxes
    have = [k for k in frames if k in boxes]
    values = {k: missing for k in frames if k not in boxes}
    if have:
        ours = np.clip(np.array([boxes[k] for k in have]), 0.0, 1.0)
        extent = np.array([*true.frame.extent, *true.frame.extent])
        theirs = np.clip(np.array([true.at(k) for k in have]) / extent, 0.0, 1.0)
        distance = np.abs(ours - theirs).sum(1)
        scored = giou_weight * giou(ours, theirs) - l1_weight * distance
        values |= dict(zip(have, scored.tolist(), strict=True))
    return [value for k in frames if (value := values[k]) is not None]


def frame_ious(track: Track, true: Tube, frames: Sequence[int]) -> np.ndarray:
    """IoU of the boxes of some frames of the true span, [len(frames)]; 0 without a valid box."""
    boxes = track.valid().to(true.frame).boxes
    values = np.zeros(len(frames))
    have = [place for place, k in enumerate(frames) if k in boxes]
    if have:
        ours = np.array([boxes[frames[place]] for place in have])
        theirs = np.array([true.at(frames[place]) for place in have])
        with np.errstate(over="ignore"):
            values[have] = iou(ours, theirs)
    return values


def tube_iou(span: tuple[int, int], track: Track, true: Tube) -> float:
    """vIoU: IoU summed over the frames of both spans, over the number of frames of either.

    Source: VidSTG (Zhang et al. 2020), on the frame grid of the arguments.
    """
    both = overlap_frames(span, true.span)
    if not len(both):
        return 0.0
    either = (span[1] - span[0] + 1) + len(true.boxes) - len(both)
    return float(frame_ious(track, true, both).sum()) / either


def interpolated(track: Track, first: int, last: int) -> Track:
    """A box for every frame from `first` to `last`: linear between boxes, constant outside them.

    Empty where the track has no box.
    """
    known = sorted(track.boxes)
    if not known or last < first:
        return Track({}, track.frame)
    frames = np.arange(first, last + 1)
    rows = np.array([track.boxes[k] for k in known], dtype=np.float64)
    edges = np.stack([np.interp(frames, known, rows[:, k]) for k in range(4)], axis=1)
    return Track(
        {
            int(k): (row[0], row[1], row[2], row[3])
            for k, row in zip(frames, edges.tolist(), strict=True)
        },
        track.frame,
    )


def is_consistent(
    spans: Sequence[tuple[float, float]], *lists: Sequence[tuple[float, Edges]] | None
) -> bool:
    """STVG-o1's R_c: every list numbers exactly t_s, t_s + 1, ..., t_e, in this order.

    A gap, an index twice, disorder, a box too many and a reversed span all fail.
    """
    if len(spans) != 1:
        return False
    first, last = spans[0]
    if not (math.isfinite(first) and math.isfinite(last) and first <= last):
        return False
    if first != int(first) or last != int(last) or last - first > 100_000:
        return False
    wanted = [float(k) for k in range(int(first), int(last) + 1)]
    return all(entries is not None and [n for n, _ in entries] == wanted for entries in lists)
