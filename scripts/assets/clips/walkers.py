"""Boxes of what moves in front of a static camera, without a detector.

frames ──> median over time = the empty scene ──> differences from it ──> boxes ──> tracks

A track ends where two objects meet or one falls apart, so that each box is of one object.
Boxes are good to a few pixels; they miss shadows and clothes of the ground's colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vlrl.geometry.boxes import iou

DIFFERENCE = 28
"""Least change of a colour, of 255, that is more than noise and compression."""
LEAST_OVERLAP = 0.1
"""Least IoU of an object's boxes in consecutive frames."""
MOST_GROWTH = 1.65
"""Greatest change of a box's area from frame to frame; more means that two objects met."""


@dataclass(frozen=True)
class Walk:
    """The boxes of one object in consecutive frames."""

    first: int
    """First frame."""
    boxes: np.ndarray
    """One per frame, xyxy pixels, [n, 4]."""

    @property
    def last(self) -> int:
        """Last frame."""
        return self.first + len(self.boxes) - 1


def empty_scene(frames: Sequence[np.ndarray], num: int = 80) -> np.ndarray:
    """The median of some frames spread over time, uint8 [H, W, 3]: what never moves."""
    step = max(1, len(frames) // num)
    return np.median(np.stack(frames[::step]), axis=0).astype(np.uint8)


def moving_boxes(frame: np.ndarray, empty: np.ndarray, least_px: int = 28) -> np.ndarray:
    """Boxes of what differs from the empty scene, [n, 4], xyxy pixels; least_px: of their height.

    Gaps are closed upwards and downwards more than sideways, as for people who stand. scipy comes
    with the extra `three_d`.
    """
    from scipy import ndimage

    differs = np.abs(frame.astype(np.int16) - empty).max(-1) > DIFFERENCE
    differs = ndimage.binary_opening(differs, iterations=2)
    differs = ndimage.binary_closing(differs, structure=np.ones((17, 5)))
    found = [
        (across.start, down.start, across.stop, down.stop)
        for down, across in ndimage.find_objects(ndimage.label(differs)[0])
        if down.stop - down.start >= least_px
    ]
    return np.array(found, dtype=float).reshape(-1, 4)


def walks(boxes: Iterable[np.ndarray], least_frames: int = 15) -> list[Walk]:
    """Tracks through the boxes of each frame, those of `least_frames` or more, in order of start.

    A box continues with the one box that it overlaps in the next frame, if that holds both ways and
    the area changes little; otherwise the track ends there.
    """
    done: list[Walk] = []
    live: list[tuple[int, list[np.ndarray]]] = []

    def close(first: int, kept: list[np.ndarray]) -> None:
        if len(kept) >= least_frames:
            done.append(Walk(first, np.stack(kept)))

    for number, now in enumerate(boxes):
        before = np.stack([kept[-1] for _, kept in live]) if live else np.zeros((0, 4))
        meets = _overlaps(before, now) > LEAST_OVERLAP
        going: list[tuple[int, list[np.ndarray]]] = []
        taken = set()
        for row, (first, kept) in enumerate(live):
            places = meets[row].nonzero()[0]
            alone = len(places) == 1 and meets[:, places[0]].sum() == 1
            if alone and _alike(kept[-1], now[places[0]]):
                going.append((first, [*kept, now[places[0]]]))
                taken.add(int(places[0]))
            else:
                close(first, kept)
        going += [(number, [box]) for place, box in enumerate(now) if place not in taken]
        live = going
    for first, kept in live:
        close(first, kept)
    return sorted(done, key=lambda walk: walk.first)


def _overlaps(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """IoU of every box with every box, [a, b]."""
    a, b = len(before), len(now)
    if not a or not b:
        return np.zeros((a, b))
    return iou(np.repeat(before, b, axis=0), np.tile(now, (a, 1))).reshape(a, b)


def _alike(before: np.ndarray, now: np.ndarray) -> bool:
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (before, now)]
    return 1 / MOST_GROWTH < areas[1] / areas[0] < MOST_GROWTH
