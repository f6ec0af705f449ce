"""How well the boxes fit in the frames that both spans share (STVG-o1's R_spa)."""

from __future__ import annotations

from vlrl.types import Rollout
from vlrl.video.track_reward import SpatialOptions, TrackReward, Which, spatial_score


class TrackSpatialOptions(SpatialOptions):
    """Which boxes, and how they are compared."""

    track: Which = "final"
    """`think`: the boxes of the thinking; `final`: those of the prediction."""

    @property
    def scored_track(self) -> Which:
        """The track that is scored."""
        return self.track


class TrackSpatial(TrackReward):
    """Mean over the shared frames of GIoU minus L1 distance of the boxes.

    The paper gives 0 to a span that misses the true one, more than a bad box in the right span
    gets: a policy can learn to miss in time. Here such a span scores `floor`, and no frame scores
    less; `published: true` is the paper's form.
    """

    Options = TrackSpatialOptions
    options: TrackSpatialOptions
    formula = "mean over frames of both spans of max(floor, giou * GIoU - l1 * |box - true|_1)"
    range = (-2.0, 1.0)
    units = "the unit frame"
    source = "STVG-o1 (arXiv 2511.21375), R_spa; R_s is its sum over `think` and `final`"
    name = "track_spatial"

    def __init__(self, options: TrackSpatialOptions) -> None:
        super().__init__(options)
        self.range = options.range

    def value(self, rollout: Rollout) -> float | None:
        """The spatial score of the named track."""
        return spatial_score(rollout, self.options.track, self.options)
