"""Spans of seconds as video models write them: one after another, or a list of intervals."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vlrl.video.spans import Interval
from vlrl.video.written_text import (
    BARE_BOX,
    COMMA,
    NUMBER,
    TIME,
    answer_blocks,
    whole_blocks,
)

_WORDED = re.compile(rf"({TIME})\s*+(?:to|and)\s*+({TIME})", re.IGNORECASE)
_DASHED = re.compile(rf"({TIME})\s*+[-–]\s*+({TIME})")
_ALONE = re.compile(
    rf"[\[(]?+\s*+({TIME})\s*+(?:to|and|-|–|,)\s*+({TIME})\s*+s?+\s*+[\])]?+\.?+", re.IGNORECASE
)
_PAIR = re.compile(rf"[\[(]\s*+({NUMBER}){COMMA}({NUMBER})\s*+[\])]")
_NONE = re.compile(r"\s*+\[\s*+\]\s*+")


def last_span(text: str) -> tuple[Interval, ...]:
    """The last span of the last answer, or none.

    `12.5 to 17.8` and `12.5 and 17.8` come first, as in the releases of Time-R1 and VideoChat-R1,
    which read no other kind; then `12.5 - 17.8`, then a pair alone: `[12.5, 17.8]`.
    """
    return span_in(answer_blocks(text)[-1])


def span_in(answer: str) -> tuple[Interval, ...]:
    """The last span of a text without tags; the numbers of a box are none."""
    answer = BARE_BOX.sub(" ", answer)
    for kind in (_WORDED, _DASHED):
        if found := kind.findall(answer):
            return ((float(found[-1][0]), float(found[-1][1])),)
    return span_alone(answer)


def span_alone(answer: str) -> tuple[Interval, ...]:
    """The span that is all that a text says, or none."""
    alone = _ALONE.fullmatch(answer.strip())
    return () if alone is None else ((float(alone[1]), float(alone[2])),)


@dataclass(frozen=True)
class WrittenIntervals:
    """A list of intervals."""

    spans: tuple[Interval, ...]
    says_none: bool
    """Whether the list is there and empty."""
    is_void: bool
    """Whether one interval is reversed or negative; the list then says nothing (VideoChat-R1)."""


def intervals(text: str) -> WrittenIntervals:
    """The list in the first `<glue>` block; one that is cut off is read where none is whole."""
    whole = whole_blocks(text, "glue")
    listed = whole[0] if whole else text.partition("<glue>")[2]
    spans = tuple((float(a), float(b)) for a, b in _PAIR.findall(listed))
    if any(not 0 <= start <= end for start, end in spans):
        return WrittenIntervals((), says_none=False, is_void=True)
    says_none = bool(whole) and _NONE.fullmatch(listed) is not None
    return WrittenIntervals(spans, says_none, is_void=False)
