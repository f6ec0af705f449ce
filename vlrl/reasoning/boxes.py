"""Boxes in answers: `[x1, y1, x2, y2]`, `<box>x1, y1, x2, y2</box>`, JSON with `bbox_2d`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlrl.geometry.box_sets import matched
from vlrl.geometry.boxes import Box, Frame
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS
from vlrl.reasoning.truths import Kind, Read

MAX_BOXES = 200
"""Of an answer; more are not read."""
_NUMBER = r"-?+[0-9]{1,9}+(?:\.[0-9]{1,9}+)?+"
_NEXT = rf"\s*+,\s*+({_NUMBER})"
_BETWEEN = rf"[\s,()\[\]]++({_NUMBER})"
_FOUR = re.compile(
    rf"[\[(]\s*+({_NUMBER}){_NEXT * 3}\s*+[\])]"
    rf"|<box>[\s(\[]*+({_NUMBER}){_BETWEEN * 3}[\s)\]]*+</box>"
)
"""Within tags also without brackets, or in two pairs."""


def boxes_in(text: str, frame: Frame) -> tuple[Box, ...]:
    """All boxes that a text names, in the frame that its numbers are in; linear, never raises."""
    found = []
    for match in _FOUR.finditer(text):
        x1, y1, x2, y2 = (float(one) for one in match.groups() if one is not None)
        found.append(Box(x1, y1, x2, y2, frame))
        if len(found) == MAX_BOXES:
            break
    return tuple(found)


@dataclass(frozen=True)
class BoxesTruth:
    """Boxes, each to be found with an overlap and none beside them."""

    boxes: tuple[Box, ...]
    min_iou: float = 0.5
    kind: Kind = "boxes"

    def read(self, text: str) -> Read | None:
        """Whether it names boxes at all; the task reads them, which knows the model's frame."""
        return text if len(text) <= MAX_ANSWER_CHARS and _FOUR.search(text) else None

    def matches(self, read: Read) -> bool:
        """Never: `matches_boxes` compares them."""
        return False

    def matches_boxes(self, given: Sequence[Box]) -> bool:
        """Whether every true box has one of its own with at least `min_iou`, and none is left."""
        here = [box.to(self.boxes[0].frame) for box in given]
        if len(here) != len(self.boxes) or not all(box.is_valid for box in here):
            return False
        pairs = matched(
            np.array([box.xyxy for box in here]), np.array([box.xyxy for box in self.boxes])
        )
        return len(pairs) == len(self.boxes) and min(pair[2] for pair in pairs) >= self.min_iou
