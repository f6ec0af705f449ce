"""vIoU itself as a reward: overlap of the predicted and the true tube, in time and space."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout
from vlrl.video.track_reward import Which, tube_overlap


@reward_function(
    range=(0.0, 1.0),
    formula="sum of IoU over frames of both spans / number of frames of either span",
    units="the task's index",
    source="vIoU of VidSTG (Zhang et al. 2020), here on the frames that the answer numbers",
    needs=("spans", "track"),
)
def tube_iou(rollout: Rollout, *, track: Which = "final") -> float | None:
    """vIoU of the named boxes; 0 where there is no readable span or no box."""
    return tube_overlap(rollout, track)
