"""STVG-o1's terms, each for the tokens that it judges: the span's and every box's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from vlrl.protocols import Reward
from vlrl.types import Rollout, Score
from vlrl.video.spans import Interval, span_iou
from vlrl.video.track_reward import (
    SpatialOptions,
    Which,
    shared_frames,
    spatial_score,
    true_track,
    tube_overlap,
)
from vlrl.video.tubes import Track, Tube, frame_scores


class TrackCreditOptions(SpatialOptions):
    """How boxes are compared, and how finely credit is given."""

    num_boxes: int = Field(1, ge=1)
    """Stages of each list of boxes: box k is in stage k modulo this. As many as sampled frames:
    every frame by itself. 1: the list as a whole."""
    thinking: bool = True
    """Whether answers have thinking boxes."""
    preceding: float = Field(0.0, ge=0, le=1)
    """How much of the score of the box before it (of a final box: of the same frame's thinking
    box) is taken off a box. 0: boxes are paid for what they are; 1: for what they improve."""
    tube: float = Field(0.0, ge=0)
    """Weight of vIoU in what the span's tokens get: boxes depend on the span they follow."""


@dataclass(frozen=True)
class _Reading:
    """What the parts of one answer are worth."""

    parts: dict[str, float]
    lists: list[dict[int, float]]
    """R_spa of every frame in both spans, one dict per list of boxes, in the answer's order."""


class TrackCredit(Reward):
    """R_f + R_c + R_t for the span's tokens, R_f + R_c + its own frame's R_spa for each box's.

    One reward for a hundred tokens says little about each of them: of six boxes in two lists, one
    number is a twenty-fourth. Here answers of a group are compared frame by frame. A box outside
    the true span, and every box of a span that misses, says nothing about its tokens (None); the
    span pays for that. With `preceding` a box is not paid for what it only copies: a box has its
    place from the one before it, whose score was there before the box was, so it is a baseline
    that adds no bias and most of the noise is taken off with it. With `tube` a span is not paid
    for being longer where the boxes that follow it are then worse. Needs the task's
    `stage_starts`; must be the root. The value is STVG-o1's sum without R_k, plus tube * vIoU.
    Not in the paper.
    """

    Options = TrackCreditOptions
    options: TrackCreditOptions
    name = "track_credit"
    needs = frozenset({"spans", "track", "format", "consistent"})
    formula = (
        "stage 0: R_f + R_c + R_t + tube * vIoU; a box: R_f + R_c + s - preceding * s of the "
        "box before it, s = max(floor, giou GIoU - l1 L1)"
    )
    units = "the unit frame"
    source = "the terms: STVG-o1 (arXiv 2511.21375); whose tokens get which: ours"

    def __init__(self, options: TrackCreditOptions) -> None:
        self.options = options
        self.num_stages = 1 + 2 * options.num_boxes
        low, high = options.range
        lists = 1 + options.thinking
        self.range = (lists * low, 3.0 + options.tube + lists * high)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order, with a value per stage."""
        readings = [self._read(rollout) for rollout in rollouts]
        groups: dict[tuple[str, int], list[float]] = {}
        for rollout, reading in zip(rollouts, readings, strict=True):
            lists = [] if reading is None else reading.lists
            first = [score for scores in lists for score in scores.values()][:1]
            groups.setdefault((rollout.sample.id, rollout.group), []).extend(first)
        usual = {key: math.fsum(values) / max(1, len(values)) for key, values in groups.items()}
        return [
            Score(None)
            if reading is None
            else self._score(reading, usual[rollout.sample.id, rollout.group])
            for rollout, reading in zip(rollouts, readings, strict=True)
        ]

    def _read(self, rollout: Rollout) -> _Reading | None:
        """What an answer is worth, part by part; None for a sentence without boxes."""
        true = true_track(rollout)
        if true is None:
            return None
        answer: Any = rollout.parsed
        parts = {"form": 0.0, "span": 0.0}
        if self.options.tube:
            parts["tube"] = self.options.tube * (tube_overlap(rollout, "final") or 0.0)
        lists: list[dict[int, float]] = []
        if answer is not None:
            target = rollout.sample.target
            parts["form"] = float(answer.well_formed) + float(answer.consistent)
            parts["span"] = span_iou(answer.spans, target.spans, closed=target.closed)
            tracks = (answer.think, answer.final) if self.options.thinking else (answer.final,)
            lists = [self._boxes(track, answer.spans, true) for track in tracks]
        names: tuple[Which, ...] = ("think", "final") if self.options.thinking else ("final",)
        for which in names:
            whole = spatial_score(rollout, which, self.options)
            parts[f"spatial_{which}"] = 0.0 if whole is None else whole
        return _Reading(parts, lists)

    def _score(self, reading: _Reading, usual: float) -> Score:
        """`usual`: the mean of the group's first boxes, as the baseline of a first box."""
        parts = reading.parts
        form, count = parts["form"], self.options.num_boxes
        # Without thinking boxes their stages have nothing to say.
        boxes: list[float | None] = [None] * (self.num_stages - 1 - count * len(reading.lists))
        for paid in beyond_preceding(reading.lists, self.options.preceding, usual):
            slots = [[v for frame, v in paid.items() if frame % count == k] for k in range(count)]
            boxes += [form + math.fsum(slot) / len(slot) if slot else None for slot in slots]
        span = form + parts["span"] + parts.get("tube", 0.0)
        return Score(sum(parts.values()), parts, (span, *boxes))

    def _boxes(
        self, track: Track | None, spans: Sequence[Interval], true: Tube
    ) -> dict[int, float]:
        """R_spa of every box in the frames of both spans, in order."""
        if track is None:
            return {}
        o = self.options
        frames = sorted(frame for frame in shared_frames(spans, true) if frame in track.boxes)
        values = frame_scores(
            track, true, frames, giou_weight=o.giou, l1_weight=o.l1, missing=o.floor
        )
        return {
            frame: float(value if o.published else max(o.floor, value))
            for frame, value in zip(frames, values, strict=True)
        }


def beyond_preceding(
    lists: Sequence[Mapping[int, float]], share: float, usual: float
) -> list[dict[int, float]]:
    """Each frame's score less `share` of the one before it; lists follow each other in the answer.

    The one before a score is the same frame's in the list before; failing that, the last one in
    its own list; failing that, `usual`.
    """
    paid: list[dict[int, float]] = []
    earlier: Mapping[int, float] = {}
    for scores in lists:
        last, list_paid = usual, {}
        for frame, score in scores.items():
            list_paid[frame] = score - share * earlier.get(frame, last)
            last = score
        paid.append(list_paid)
        earlier = scores
    return paid
