"""Spans of time: whole frames with both ends included, and intervals of continuous seconds.

[5, 7] and [6, 8] as frames share two of four; as seconds they share one of three. The two are
never mixed: `closed` says which is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

Interval = tuple[float, float]


def is_interval(span: Interval) -> bool:
    """Whether the end is not before the start; False for nan."""
    return span[0] <= span[1]


def length(span: Interval, closed: bool) -> float:
    """Frames of a closed span, seconds of a continuous one; 0 where the end is before the start."""
    return max(0.0, span[1] - span[0] + (1.0 if closed else 0.0))


def shared(one: Interval, other: Interval, closed: bool) -> float:
    """Length of the intersection."""
    return length((max(one[0], other[0]), min(one[1], other[1])), closed)


def merged(spans: Sequence[Interval], closed: bool) -> list[Interval]:
    """The same time as disjoint spans in order; closed spans that touch are joined."""
    joined: list[Interval] = []
    touch = 1.0 if closed else 0.0
    for start, end in sorted(span for span in spans if is_interval(span)):
        if joined and start <= joined[-1][1] + touch:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def span_iou(
    predicted: Sequence[Interval], true: Sequence[Interval], *, closed: bool, hull: bool = False
) -> float:
    """Time in both over time in either, in [0, 1]; intervals of one side may overlap.

    Two empty sides give 1 (VideoChat-R1). Instants, spans of no length, match only an equal
    instant. `hull`: the denominator reaches from the first start to the last end, as released
    code has it (Time-R1, VideoChat-R1); for one interval per side it changes nothing but 0 / 0.
    """
    ours, theirs = merged(predicted, closed), merged(true, closed)
    if not ours or not theirs:
        return 1.0 if not ours and not theirs else 0.0
    both = sum(shared(a, b, closed) for a in ours for b in theirs)
    sides = [sum(length(span, closed) for span in side) for side in (ours, theirs)]
    either = sum(sides) - both
    # One span a side: from the first start to the last end, so that a tie with a threshold is one
    # in floating point too, as in the releases (R1@m).
    is_plain = len(ours) == len(theirs) == 1 and both > 0
    if hull or is_plain:
        ends = [*ours, *theirs]
        either = length((min(a for a, _ in ends), max(b for _, b in ends)), closed)
    if either > 0:
        return min(1.0, both / either)
    return 1.0 if ours == theirs else 0.0


def clamp(spans: Sequence[Interval], end: float) -> tuple[Interval, ...]:
    """The spans clipped to [0, end]; those wholly outside are dropped.

    14 % of Charades-STA's training pairs end after their video does: either both sides of a
    comparison are clipped, or neither.
    """
    cut = ((max(0.0, a), min(end, b)) for a, b in spans if a <= end and b >= 0)
    return tuple(span for span in cut if is_interval(span))
