"""Right, wrong, or no answer at all: the one rule by which a click is judged.

Edges count as inside, as in all six published suites. Click and box are each divided once, from the
frame in which they were written into the unit frame, as ScreenSpot-Pro's, MMBench-GUI's and
MAI-UI's evaluations do: on the way through other frames, an edge would be lost to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from vlrl.geometry.boxes import UNIT, Box, Frame, Point
from vlrl.geometry.polygon import in_polygon


class Outcome(Enum):
    """The outcome of one question."""

    CORRECT = "correct"
    WRONG = "wrong"
    WRONG_FORMAT = "wrong_format"
    """An answer in which no place can be read; it counts in every denominator."""
    FAILED = "failed"
    """No answer: the model could not be asked. Never taken for a wrong one."""


@dataclass(frozen=True)
class Polygon:
    """An area with straight edges, corners in order."""

    corners: tuple[Point, ...]

    @property
    def box(self) -> Box:
        """The smallest rectangle around it."""
        xs, ys = [p.x for p in self.corners], [p.y for p in self.corners]
        return Box(min(xs), min(ys), max(xs), max(ys), self.corners[0].frame)


@dataclass(frozen=True)
class Refusal:
    """What is asked for is not on the screen: the right answer is to say so."""


Target = Box | Polygon | Refusal
Answer = Point | Refusal | None
"""A click, "there is no such thing", or nothing that can be read."""


@dataclass(frozen=True)
class Verdict:
    """An outcome and why, for people to read."""

    outcome: Outcome
    reason: str


def is_inside(target: Box | Polygon, click: Point) -> bool:
    """Whether a click lies in the target, edges included."""
    if isinstance(target, Polygon):
        return in_polygon(click.to(target.corners[0].frame), target.corners)
    click, box = click.to(UNIT), target.to(UNIT)
    return box.x1 <= click.x <= box.x2 and box.y1 <= click.y <= box.y2


def judge(answer: Answer, target: Target, pixels: Frame | None = None) -> Verdict:
    """The verdict on one answer.

    A refusal is right only where the target is one; an unreadable answer is never a refusal.
    pixels: the image's frame, in which the reason gives distances; the target's by default.
    """
    if answer is None:
        return Verdict(Outcome.WRONG_FORMAT, "no place in the answer")
    if isinstance(target, Refusal):
        if isinstance(answer, Refusal):
            return Verdict(Outcome.CORRECT, "refused, rightly")
        return Verdict(Outcome.WRONG, "clicked where it should refuse")
    if isinstance(answer, Refusal):
        return Verdict(Outcome.WRONG, "refused, but the target is there")
    if is_inside(target, answer):
        return Verdict(Outcome.CORRECT, "inside")
    return Verdict(Outcome.WRONG, f"outside by {_distance(target, answer, pixels):.1f} px")


def _distance(target: Box | Polygon, click: Point, pixels: Frame | None) -> float:
    """From the click to the target's box, in the given frame or else in the target's."""
    box = target.box if isinstance(target, Polygon) else target
    box = box if pixels is None else box.to(pixels)
    click = click.to(box.frame)
    return math.hypot(
        max(box.x1 - click.x, 0.0, click.x - box.x2),
        max(box.y1 - click.y, 0.0, click.y - box.y2),
    )


def polygon_of(values: Sequence[float], frame: Frame) -> Polygon:
    """A polygon from a flat list x1, y1, x2, y2, ... in a frame."""
    corners = zip(values[::2], values[1::2], strict=True)
    return Polygon(tuple(Point(x, y, frame) for x, y in corners))
