"""Questions of several kinds, with answers, without files."""

from __future__ import annotations

from typing import Any

from vlrl.geometry.boxes import Box, Frame
from vlrl.reasoning.boxes import BoxesTruth
from vlrl.reasoning.quantities import Quantity
from vlrl.reasoning.routes import RouteProblem, Segment, write_route
from vlrl.reasoning.truths import ChoiceTruth, NumberTruth, RouteTruth, Truth
from vlrl.tasks.visual_reasoning import ReasoningTarget
from vlrl.types import ImagePart, Message, Sample, TextPart

FRAME = Frame(56, 56)
LINES = {
    "Red Line": ("Alder", "Brook", "Castle", "Dover"),
    "Blue Line": ("Castle", "Elm", "Fern"),
    "Green Line": ("Fern", "Garden"),
}
RED = Segment("Red Line", "Alder", "Castle")
BLUE = Segment("Blue Line", "Castle", "Fern")
GREEN = Segment("Green Line", "Fern", "Garden")


def is_right(truth: Any, text: str) -> bool:
    """Whether a text is read, and taken for the true answer."""
    read = truth.read(text)
    return read is not None and truth.matches(read)


def problem(start: str = "Alder", end: str = "Fern", transfers: int | None = 1) -> RouteProblem:
    return RouteProblem(LINES, start, end, transfers)


def sample_of(truth: Truth, boxes: tuple[Box, ...] | None = None, **columns: object) -> Sample:
    """A question about one image that no test opens."""
    parts = (ImagePart("none.png", 56, 56), TextPart("?"))
    target = ReasoningTarget(truth, boxes)
    known = {"kind": truth.kind, "map": "hard", "transfers": 1, **columns}
    return Sample("s0", "visual_reasoning", (Message("user", parts),), target, known)


BOXES = (Box(0, 0, 20, 20, FRAME), Box(30, 30, 50, 50, FRAME))
QUESTIONS = (
    (
        sample_of(RouteTruth(problem())),
        (write_route([RED, BLUE]), write_route([RED]), "by bus", ""),
    ),
    (sample_of(ChoiceTruth("B", ("red", "blue")), BOXES), ("B", "(A)", "A or B", "")),
    (sample_of(NumberTruth(Quantity(7.0))), ("7", "8", "7 or 8")),
    (sample_of(BoxesTruth(BOXES[:1]), BOXES[:1]), ("[0, 0, 20, 20]", "[3, 3, 9, 9]", "there")),
)
"""Samples, and answers from the right one to none."""
