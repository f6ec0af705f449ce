"""STVG-o1's terms, each for the tokens that it judges: the span's and every box's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from vlrl.measure.spans import Interval, span_iou
from vlrl.measure.tubes import Track, Tube, frame_scores
from vlrl.reward.tracks import SpatialOptions, Which, shared_frames, spatial_score, true_track
from vlrl.types import Rollout, Score


class TrackCreditOptions(SpatialOptions):
    """How boxes are compared, and how finely credit is given."""

    num_boxes: int = Field(1, ge=1)
    """Stages of each list of boxes: box k is in stage k modulo this. As many as sampled frames:
    every frame by itself. 1: the list as a whole."""
    thinking: bool = True
    """Whether answers have thinking boxes."""


class TrackCredit:
    """R_f + R_c + R_t for the span's tokens, R_f + R_c + its own frame's R_spa for each box's.

    One reward for a hundred tokens says little about each of them: of six boxes in two lists, one
    number is a twenty-fourth. Here answers of a group are compared frame by frame. A box outside
    the true span, and every box of a span that misses, says nothing about its tokens (None); the
    span pays for that. Needs the task's `stage_starts`; stands at the root. The value is STVG-o1's
    sum without R_k. Not in the paper.
    """

    Options = TrackCreditOptions
    name = "track_credit"
    needs = frozenset({"spans", "track", "format", "consistent"})
    formula = "stage 0: R_f + R_c + R_t; a box: R_f + R_c + max(floor, giou GIoU - l1 L1)"
    units = "the unit frame"
    source = "the terms: STVG-o1 (arXiv 2511.21375); whose tokens get which: ours"

    def __init__(self, options: TrackCreditOptions) -> None:
        self.options = options
        self.num_stages = 1 + 2 * options.num_boxes
        low, high = options.range
        lists = 1 + options.thinking
        self.range = (lists * low, 3.0 + lists * high)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order, with a value a stage."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        true = true_track(rollout)
        if true is None:
            return Score(None)
        answer: Any = rollout.parsed
        parts = {"form": 0.0, "span": 0.0}
        boxes: list[float | None] = [None] * (self.num_stages - 1)
        if answer is not None:
            target = rollout.sample.target
            parts["form"] = float(answer.well_formed) + float(answer.consistent)
            parts["span"] = span_iou(answer.spans, target.spans, closed=target.closed)
            lists = (answer.think if self.options.thinking else None, answer.final)
            boxes = [
                None if value is None else parts["form"] + value
                for track in lists
                for value in self._boxes(track, answer.spans, true)
            ]
        names: tuple[Which, ...] = ("think", "final") if self.options.thinking else ("final",)
        for which in names:
            whole = spatial_score(rollout, which, self.options)
            parts[f"spatial_{which}"] = 0.0 if whole is None else whole
        return Score(sum(parts.values()), parts, (parts["form"] + parts["span"], *boxes))

    def _boxes(
        self, track: Track | None, spans: Sequence[Interval], true: Tube
    ) -> list[float | None]:
        """R_spa of each slot of a list: the mean of its boxes in the frames of both spans."""
        o = self.options
        slots: list[list[float]] = [[] for _ in range(o.num_boxes)]
        if track is not None:
            frames = [frame for frame in shared_frames(spans, true) if frame in track.boxes]
            values = frame_scores(
                track, true, frames, giou_weight=o.giou, l1_weight=o.l1, missing=o.floor
            )
            for frame, value in zip(frames, values, strict=True):
                slots[frame % o.num_boxes].append(value if o.published else max(o.floor, value))
        return [sum(slot) / len(slot) if slot else None for slot in slots]
