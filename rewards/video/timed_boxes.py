"""Boxes with a time: how near in time to a true one, and how well they fit (Open-o3 Video)."""

from __future__ import annotations

import math

import numpy as np

from vlrl.geometry.boxes import Box, iou
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout

LAST_SIGMA_S = 1.0
"""Open-o3 Video: sigma falls from 4 s to 1 s in the first three quarters of the training."""
KEY_FRAME_WITHIN_S = 1.0


@reward_function(
    range=(0.0, 1.0),
    formula="mean over boxes of exp(-dt^2 / (2 sigma^2)), dt to the nearest true box in time",
    units="seconds",
    source="Open-o3 Video's release, thk_temporal_point_reward",
    needs=("timed_boxes",),
)
def time_proximity(
    rollout: Rollout, *, first_sigma_s: float = 4.0, num_steps: int | None = None
) -> float | None:
    """How near the times are; sigma shrinks with the policy's version over `num_steps`.

    Without `num_steps` sigma is 1 s throughout. 0 without a box that has a time.
    """
    claims = _claims(rollout)
    if claims is None:
        return None
    sigma = _sigma(rollout, first_sigma_s, num_steps)
    keys = rollout.sample.target.timed
    nearness = [_weight(min(abs(t - key) for key, _ in keys), sigma) for t, _ in claims]
    return sum(nearness) / len(nearness) if nearness else 0.0


@reward_function(
    range=(0.0, 1.0),
    formula="mean over boxes of exp(-dt^2 / (2 sigma^2)) * IoU with the true box nearest in time",
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
    """IoU of every box with the true one nearest in time, weighted by how near; 0 without any."""
    claims = _claims(rollout)
    if claims is None:
        return None
    if not claims:
        return 0.0
    target = rollout.sample.target
    sigma = _sigma(rollout, first_sigma_s, num_steps)
    total = 0.0
    for time, box in claims:
        keys = target.timed
        if published:
            keys = [key for key in keys if key[0] - time < KEY_FRAME_WITHIN_S]
            if not keys:
                continue
        key_time, key_box = min(keys, key=lambda key: abs(key[0] - time))
        weight = 1.0 if published else _weight(abs(key_time - time), sigma)
        total += weight * _iou(box, key_box)
    return total / len(claims)


def _claims(rollout: Rollout) -> list[tuple[float, Box]] | None:
    """The boxes with their times, in the order written; None where the sample has no true one."""
    if not rollout.sample.target.timed:
        return None
    return [] if rollout.parsed is None else list(rollout.parsed.timed)


def _sigma(rollout: Rollout, first_sigma_s: float, num_steps: int | None) -> float:
    """4 (1 - progress) seconds until a quarter is left, then 1; the last one without a length."""
    if num_steps is None:
        return LAST_SIGMA_S
    progress = min(1.0, rollout.policy_version / max(1, num_steps))
    return max(LAST_SIGMA_S, first_sigma_s * (1.0 - progress))


def _weight(distance_s: float, sigma_s: float) -> float:
    return math.exp(-(distance_s**2) / (2 * sigma_s**2))


def _iou(box: Box, true: Box) -> float:
    mine = box.to(true.frame)
    if not mine.is_valid:
        return 0.0
    with np.errstate(over="ignore"):
        return float(iou(np.array([mine.xyxy]), np.array([true.xyxy]))[0])
