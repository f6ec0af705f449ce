"""Boxes and points that carry their coordinate frame, and their geometry.

Boxes are xyxy with continuous edges: a box from 0 to 10 is 10 wide. Nothing here guesses a frame
from the size of a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real

Boxes = Real[np.ndarray, "N 4"]
"""xyxy, all in one frame."""


@dataclass(frozen=True)
class Frame:
    """The coordinates that span an image: (0, 0) is its top left, `extent` its bottom right.

    Example: Frame(1920, 1080) is a full-HD screen in pixels, Frame(1000, 1000) the
    0-to-1000 frame of Qwen2-VL, Frame(1, 1) the unit square.
    """

    width: float
    height: float

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0):
            raise ValueError(f"a frame has a positive size, not {self.width} x {self.height}")

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the whole image in this frame."""
        return (self.width, self.height)


UNIT = Frame(1, 1)
"""The whole image from 0 to 1."""


@dataclass(frozen=True)
class Point:
    """A place on an image."""

    x: float
    y: float
    frame: Frame

    def to(self, frame: Frame) -> Point:
        """The same place in another frame of the same image, each number rounded once.

        Whole numbers that fall on a whole number there give exactly that one.
        """
        if frame == self.frame:
            return self
        own = self.frame
        return Point(self.x * frame.width / own.width, self.y * frame.height / own.height, frame)


@dataclass(frozen=True)
class Box:
    """A rectangle on an image, exactly as written: it may be inverted, empty or off the image."""

    x1: float
    y1: float
    x2: float
    y2: float
    frame: Frame

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The four edges: left, top, right, bottom."""
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def centre(self) -> Point:
        """The middle of the box: where a click lands."""
        # Half the edges first: the sum of two edges near the float limit would overflow.
        return Point(self.x1 / 2 + self.x2 / 2, self.y1 / 2 + self.y2 / 2, self.frame)

    @property
    def is_valid(self) -> bool:
        """Finite, ordered, not empty, and at least partly on the image.

        The one check before every box reward: the released GUI-G2 and GUI-G1 code scores
        inverted boxes and boxes far off the screen, and both can be farmed.
        """
        return bool(
            all(math.isfinite(edge) for edge in self.xyxy)
            and self.x1 < self.x2
            and self.y1 < self.y2
            and self.x2 > 0
            and self.y2 > 0
            and self.x1 < self.frame.width
            and self.y1 < self.frame.height
        )

    def to(self, frame: Frame) -> Box:
        """The same rectangle in another frame of the same image; rounds as `Point.to` does."""
        if frame == self.frame:
            return self
        (w, h), (whole_w, whole_h) = frame.extent, self.frame.extent
        return Box(
            self.x1 * w / whole_w,
            self.y1 * h / whole_h,
            self.x2 * w / whole_w,
            self.y2 * h / whole_h,
            frame,
        )


def area(boxes: Boxes) -> Real[np.ndarray, " N"]:
    """Area of xyxy boxes; 0 for inverted ones."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return size[:, 0] * size[:, 1]


def iou(a: Boxes, b: Boxes) -> Float[np.ndarray, " N"]:
    """Intersection over union of xyxy boxes, pair by pair, in [0, 1].

    Continuous edges in every frame: identical boxes have IoU 1, also at one pixel and in 0..1.
    """
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, 2:], b[:, 2:])
    side = np.maximum(high - low, 0.0)
    shared = side[:, 0] * side[:, 1]
    union = area(a) + area(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def overlap(answer: Box, true: Box) -> tuple[float, float, float]:
    """IoU, precision (shared area / answer's) and recall (shared area / true's), each in [0, 1].

    An invalid answer and a true box without area give 0.
    """
    box = answer.to(true.frame)
    if not box.is_valid:
        return (0.0, 0.0, 0.0)
    width = max(0.0, min(box.x2, true.x2) - max(box.x1, true.x1))
    height = max(0.0, min(box.y2, true.y2) - max(box.y1, true.y1))
    shared = width * height
    own = (box.x2 - box.x1) * (box.y2 - box.y1)
    wanted = max(0.0, true.x2 - true.x1) * max(0.0, true.y2 - true.y1)
    if shared == 0:
        return (0.0, 0.0, 0.0)
    return (shared / (own + wanted - shared), shared / own, shared / wanted)


def centres(boxes: Boxes) -> Float[np.ndarray, "N 2"]:
    """Middles of xyxy boxes."""
    return boxes[:, :2] / 2 + boxes[:, 2:] / 2


def contains(boxes: Boxes, points: Real[np.ndarray, "N 2"]) -> Bool[np.ndarray, " N"]:
    """Whether points lie in boxes, pair by pair, all four edges included."""
    inside = (points >= boxes[:, :2]) & (points <= boxes[:, 2:])
    return inside[:, 0] & inside[:, 1]


def giou(a: Boxes, b: Boxes) -> Float[np.ndarray, " N"]:
    """Generalised IoU (Rezatofighi et al. 2019) of xyxy boxes, pair by pair, in (-1, 1].

    For ordered boxes only: of a box whose corners are both exchanged the formula gives +1.
    """
    low, high = np.minimum(a[:, :2], b[:, :2]), np.maximum(a[:, 2:], b[:, 2:])
    hull = np.prod(np.maximum(high - low, 0.0), axis=1)
    side = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0.0)
    both = side[:, 0] * side[:, 1]
    union = area(a) + area(b) - both
    waste = np.divide(hull - union, hull, out=np.zeros_like(hull), where=hull > 0)
    return iou(a, b) - waste
