"""vIoU itself as a reward: overlap of the predicted and the true tube, in time and space."""

from __future__ import annotations

from vlrl.measure.tubes import tube_iou as overlap
from vlrl.reward.scorers import scorer
from vlrl.reward.tracks import Which, true_track
from vlrl.types import Rollout


@scorer(
    range=(0.0, 1.0),
    formula="sum of IoU over frames of both spans / number of frames of either span",
    units="the task's index",
    source="vIoU of VidSTG (Zhang et al. 2020), here on the frames that the answer numbers",
    needs=("spans", "track"),
)
def tube_iou(rollout: Rollout, *, track: Which = "final") -> float | None:
    """vIoU of the named boxes; 0 where there is no readable span or no box."""
    true = true_track(rollout)
    if true is None:
        return None
    answer = rollout.parsed
    boxes = None if answer is None else getattr(answer, track)
    if boxes is None or len(answer.spans) != 1:
        return 0.0
    start, end = (int(edge) for edge in answer.spans[0])
    return overlap((start, end), boxes, true)
