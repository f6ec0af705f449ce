"""Boxes with a time: how near in time to a true one, and how well they fit (Open-o3 Video)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vlrl.geometry.boxes import Box, iou
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout

LAST_SIGMA_S = 1.0
"""Open-o3 Video: sigma falls from 4 s to 1 s in the first three quarters of the training."""
KEY_FRAME_WITHIN_S = 1.0


@reward_function(
    range=(0.0, 1.0),
    formula="mean over times of exp(-dt^2 / (2 sigma^2)), dt to the nearest true box in time",
    units="seconds",
    source="Open-o3 Video's release, thk_temporal_point_reward",
    needs=("timed_boxes",),
)
def time_proximity(
    rollout: Rollout, *, first_sigma_s: float = 4.0, num_steps: int | None = None
) -> float | None:
    """How near the times are; sigma shrinks with the policy's version over `num_steps`.

    Without `num_steps` sigma is 1 s throughout. Times without a box count too; 0 without any.
    """
    keys = rollout.sample.target.timed
    if not keys:
        return None
    times = () if rollout.parsed is None else rollout.parsed.times
    sigma = _sigma(rollout, first_sigma_s, num_steps)
    nearness = [_weight(min(abs(t - key.time_s) for key in keys), sigma) for t in times]
    return sum(nearness) / len(nearness) if nearness else 0.0


@reward_function(
    range=(0.0, 1.0),
    formula=(
        "mean over claims of exp(-dt^2 / (2 sigma^2)) * the best IoU of one of its boxes with a "
        "true box of the nearest time"
    ),
    units="seconds",
    source=(
        "Open-o3 Video's release, thk_spatial_reward: there without the weight, and 0 unless a "
        "true box lies within 1 s; its missing abs() lets any earlier one pass (`published`)"
    ),
    needs=("timed_boxes",),
)
def timed_boxes(
    rollout: Rollout,
    *,
    first_sigma_s: float = 4.0,
    num_steps: int | None = None,
    published: bool = False,
) -> float | None:
    """IoU of what is claimed of a time with the true boxes nearest in time; 0 without any claim.

    A claim may have several boxes, and a time several objects: the best of each counts.
    """
    target = rollout.sample.target
    if not target.timed:
        return None
    claims = () if rollout.parsed is None else rollout.parsed.timed
    if not claims:
        return 0.0
    sigma = _sigma(rollout, first_sigma_s, num_steps)
    total = 0.0
    for claim in claims:
        keys = target.timed
        if published:
            keys = [key for key in keys if key.time_s - claim.time_s < KEY_FRAME_WITHIN_S]
            if not keys:
                continue
        nearest = min(keys, key=lambda key: abs(key.time_s - claim.time_s))
        weight = 1.0 if published else _weight(abs(nearest.time_s - claim.time_s), sigma)
        total += weight * _best_iou(claim.boxes, nearest.boxes)
    return total / len(claims)


def _sigma(rollout: Rollout, first_sigma_s: float, num_steps: int | None) -> float:
    """4 (1 - progress) seconds until a quarter is left, then 1; the last one without a length."""
    if num_steps is None:
        return LAST_SIGMA_S
    progress = min(1.0, rollout.policy_version / max(1, num_steps))
    return max(LAST_SIGMA_S, first_sigma_s * (1.0 - progress))


def _weight(distance_s: float, sigma_s: float) -> float:
    return math.exp(-(distance_s**2) / (2 * sigma_s**2))


def _best_iou(boxes: Sequence[Box], true: Sequence[Box]) -> float:
    """The best IoU of one of the boxes with one of the true ones; 0 where none is a box."""
    frame = true[0].frame
    good = [moved.xyxy for box in boxes if (moved := box.to(frame)).is_valid]
    if not good:
        return 0.0
    with np.errstate(over="ignore"):
        return max(
            float(iou(np.array(good), np.array([wanted.xyxy] * len(good))).max()) for wanted in true
        )
