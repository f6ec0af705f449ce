"""Overlap in time of what is answered and what is true, one span or several (STVG-o1's R_t)."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout
from vlrl.video.spans import span_iou


@reward_function(
    range=(0.0, 1.0),
    formula="time in both / time in either; whole frames count with both ends",
    units="the task's index (frames, both ends included) or seconds",
    source=(
        "STVG-o1 (arXiv 2511.21375), R_t; with seconds VideoChat-R1's and Time-R1's temporal "
        "reward, whose released denominator is `hull: true`"
    ),
    needs=("spans",),
)
def temporal_iou(rollout: Rollout, *, hull: bool = False) -> float | None:
    """IoU of the spans; two empty sides give 1, an unreadable answer 0.

    hull: the denominator reaches from the first start to the last end. Does not apply where the
    sample names no span.
    """
    target = rollout.sample.target
    if target.spans is None:
        return None
    if rollout.parsed is None:
        return 0.0
    return span_iou(rollout.parsed.spans, target.spans, closed=target.closed, hull=hull)
