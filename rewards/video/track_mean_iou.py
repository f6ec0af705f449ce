"""Mean IoU of listed boxes (VideoChat-R1's tracking reward)."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout
from vlrl.video.track_reward import true_track
from vlrl.video.tubes import frame_ious


@reward_function(
    range=(0.0, 1.0),
    formula="mean IoU over the true frames; 0 if the number of boxes is another one",
    units="the task's index",
    source=(
        "VideoChat-R1 (arXiv 2504.06958), tracking: exactly 8 boxes. Its loader shows 7 distinct "
        "frames for 8 boxes; here boxes and frames go by index"
    ),
    needs=("track",),
)
def track_mean_iou(rollout: Rollout, *, exact_count: bool = True) -> float | None:
    """IoU averaged over the true frames, a missing or bad box counting 0.

    exact_count: an answer with more or fewer boxes than true frames scores 0.
    """
    true = true_track(rollout)
    if true is None:
        return None
    track = None if rollout.parsed is None else rollout.parsed.final
    if track is None or (exact_count and len(track.boxes) != len(true.boxes)):
        return 0.0
    return float(frame_ious(track, true, range(true.first, true.last + 1)).mean())
