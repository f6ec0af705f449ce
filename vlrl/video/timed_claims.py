"""What Open-o3 Video's answers say: objects with boxes and a time, bare times, and a span.

    <think>A <obj>dog</obj><box>[10, 20, 30, 40]</box>at<t>2.0</t>s runs, till <t>4.5</t>s.</think>
    <answer>From <t>2.0</t>s to <t>4.5</t>s.</answer>

An object may have several boxes before its time. Only the thinking claims anything.
"""

from __future__ import annotations

import math
import re

from vlrl.families.thinking import first_thought
from vlrl.video.spans import Interval
from vlrl.video.written_spans import span_alone
from vlrl.video.written_text import NUMBER, TIME, answer_blocks, whole_blocks

Claim = tuple[float, tuple[tuple[float, float, float, float], ...]]
"""A time in seconds, and the boxes before it."""

_TIME_TAG = rf"<t>\s*+({TIME})\s*+</t>\s*+s"
_TIME = re.compile(_TIME_TAG)
_SPAN = re.compile(rf"{_TIME_TAG}\s*+to\s*+{_TIME_TAG}")
_MARK = re.compile(
    rf"<obj>|</obj>|<box>\s*+\[([^\]<]*+)\]\s*+</box>|at\s*+<t>\s*+({NUMBER})\s*+</t>\s*+s"
)
_EDGE = re.compile(rf"\s*+{NUMBER}\s*+")


def answered_span(text: str) -> tuple[Interval, ...]:
    """The first span between time tags of the first answer; one without tags where it is alone."""
    answer = answer_blocks(text)[0]
    tagged = _SPAN.search(answer)
    return span_alone(answer) if tagged is None else ((float(tagged[1]), float(tagged[2])),)


def thinking_times(text: str) -> tuple[float, ...]:
    """All times of the thinking in seconds, with a box or without."""
    return tuple(filter(math.isfinite, map(float, _TIME.findall(_closed_thought(text)))))


def thinking_claims(text: str) -> tuple[Claim, ...]:
    """The claims of the thinking in order; none where thinking or answer are not closed.

    A box that is a list of other than four numbers leaves its claim without that box; one that is
    no list of numbers voids the claim.
    """
    if not whole_blocks(text, "answer"):
        return ()
    return tuple(claim for claim in _claims(_closed_thought(text)) if math.isfinite(claim[0]))


def _closed_thought(text: str) -> str:
    """The first thinking; empty where it never ends."""
    thought = first_thought(text)
    return thought.text if thought is not None and thought.is_closed else ""


def _claims(think: str) -> list[Claim]:
    claims: list[Claim] = []
    is_open, end = False, -1
    boxes: list[tuple[float, ...] | None] = []
    for mark in _MARK.finditer(think):
        follows = end >= 0 and not think[end : mark.start()].strip()
        if mark[0] == "<obj>":
            # A name may hold another opening tag: the boxes after its end are what counts.
            is_open, end = True, -1
        elif mark[0] == "</obj>":
            boxes, end = [], mark.end() if is_open else -1
        elif mark[1] is not None and follows:
            boxes.append(_numbers(mark[1]))
            end = mark.end()
        elif mark[2] is not None and follows and boxes:
            if None not in boxes:
                four = [(b[0], b[1], b[2], b[3]) for b in boxes if b is not None and len(b) == 4]
                claims.append((float(mark[2]), tuple(four)))
            is_open, end = False, -1
        else:
            end = -1
    return claims


def _numbers(written: str) -> tuple[float, ...] | None:
    """The numbers of a list; None where an entry is no number."""
    parts = written.split(",")
    if any(_EDGE.fullmatch(part) is None for part in parts):
        return None
    return tuple(float(part) for part in parts)
