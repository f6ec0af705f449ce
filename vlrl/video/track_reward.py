"""Rewards of predicted tracks: the spatial score that several of them share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vlrl.config.section import Section
from vlrl.errors import RewardError
from vlrl.protocols import Reward
from vlrl.types import Rollout, Score
from vlrl.video.spans import Interval
from vlrl.video.tubes import Track, Tube, frame_scores, overlap_frames
from vlrl.video.tubes import tube_iou as overlap

Which = Literal["think", "final"]


class SpatialOptions(Section):
    """How the boxes of a track are compared with the true ones."""

    giou: float = Field(1.0, ge=0)
    """Weight of GIoU."""
    l1: float = Field(1.0, ge=0)
    """Weight of the L1 distance of the edges, in the unit frame (the sum of four, at most 4)."""
    floor: float = Field(-2.0, lt=0)
    """Least score of a frame, and the score of a span that misses the true one in time."""
    published: bool = False
    """As written in the paper: no floor, frames without a box left out, no overlap in time = 0.
    Missing in time then beats a bad box."""

    @property
    def scored_track(self) -> Which | None:
        """The track that is scored, where it is one of the two."""
        return None

    @property
    def range(self) -> tuple[float, float]:
        """The range of the spatial score."""
        low = -self.giou - 4 * self.l1
        if self.published:
            return (low, max(0.0, self.giou))
        return (min(self.floor, 0.0), max(self.giou, 0.0))


def spatial_score(rollout: Rollout, which: Which, options: SpatialOptions) -> float | None:
    """STVG-o1's R_spa of one track; None where the sample has no true track.

    The mean over the frames of both spans of GIoU minus L1 distance. Raises RewardError where a
    true box is no box.
    """
    true = true_track(rollout)
    if true is None:
        return None
    nothing = 0.0 if options.published else options.floor
    answer = rollout.parsed
    track: Track | None = None if answer is None else answer.track_of(which)
    if track is None:
        return nothing
    frames = shared_frames(answer.spans, true)
    scores = frame_scores(
        track,
        true,
        frames,
        giou_weight=options.giou,
        l1_weight=options.l1,
        missing=None if options.published else options.floor,
    )
    if not scores:
        return nothing
    if not options.published:
        scores = [max(options.floor, value) for value in scores]
    return sum(scores) / len(scores)


def shared_frames(spans: Sequence[Interval], true: Tube) -> Sequence[int]:
    """The frames of an answer's one span that are also in the true one; none for other answers."""
    if len(spans) != 1:
        return ()
    start, end = (int(edge) for edge in spans[0])
    return overlap_frames((start, end), true.span)


def tube_overlap(rollout: Rollout, which: Which) -> float | None:
    """vIoU of one track; 0 without a readable span or box, None where there is no true track."""
    true = true_track(rollout)
    if true is None:
        return None
    answer = rollout.parsed
    boxes: Track | None = None if answer is None else answer.track_of(which)
    if boxes is None or len(answer.spans) != 1:
        return 0.0
    start, end = (int(edge) for edge in answer.spans[0])
    return overlap((start, end), boxes, true)


def true_track(rollout: Rollout) -> Tube | None:
    """The true boxes on the answer's index grid; RewardError where one of them is no box."""
    true: Tube | None = rollout.sample.target.track
    if true is not None and (bad := true.bad_frames()):
        raise RewardError(
            f"sample {rollout.sample.id!r}: the true box of frame {bad[0]} is empty, inverted or "
            "off its image; correct the data"
        )
    return true


class TrackReward(Reward):
    """A reward whose value depends on one rollout and the spatial options."""

    options: SpatialOptions
    needs = frozenset({"spans", "track"})

    def __init__(self, options: SpatialOptions) -> None:
        self.options = options

    @abstractmethod
    def value(self, rollout: Rollout) -> float | None:
        """The score of one rollout; None = does not apply."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        values = [self.value(rollout) for rollout in rollouts]
        return [Score(v) if v is None else Score(v, {self.name: v}) for v in values]
