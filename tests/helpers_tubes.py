"""Rollouts of the video task without a video: targets and answers as the rewards see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlrl.geometry.boxes import Box, Frame
from vlrl.types import Finish, Rollout, Sample
from vlrl.video.timeline import Timeline
from vlrl.video.tubes import Track, Tube
from vlrl.video.video_answers import TimedBoxes, VideoAnswer, VideoTarget

PICTURE = Frame(200.0, 100.0)
LINE = Timeline("sampled_frame", tuple(range(0, 80, 4)), 8.0, 80)


def tube(first: int, *boxes: Sequence[float], frame: Frame = PICTURE) -> Tube:
    """A tube from its boxes."""
    return Tube(first, np.array(boxes, dtype=float), frame)


def still(first: int, last: int, box: Sequence[float] = (20, 20, 60, 60)) -> Tube:
    """The same box in every frame."""
    return tube(first, *([box] * (last - first + 1)))


def track_of(true: Tube) -> Track:
    """The true boxes as predicted ones."""
    return Track({true.first + k: tuple(box) for k, box in enumerate(true.boxes)}, true.frame)


def target_of(true: Tube) -> VideoTarget:
    """A target whose tube on native frames is unknown: rewards see only the index grid."""
    timed = tuple(
        TimedBoxes(LINE.seconds(true.first + k), (Box(*map(float, box), true.frame),))
        for k, box in enumerate(true.boxes)
    )
    span = ((float(true.first), float(true.last)),)
    return VideoTarget(span, True, true, None, timed, LINE)


def answer_of(
    span: tuple[float, float] | None, think: Track | None, final: Track | None, good: bool = True
) -> VideoAnswer:
    """An answer as the task would read it."""
    boxes = [] if final is None else sorted(final.boxes.items())
    timed = tuple(TimedBoxes(LINE.seconds(k), (Box(*box, PICTURE),)) for k, box in boxes)
    times = tuple(one.time_s for one in timed)
    return VideoAnswer(() if span is None else (span,), think, final, good, good, timed, times)


def rollout_of(true: Tube, answer: Any, group: int = 0, index: int = 0) -> Rollout:
    """One rollout of a sample with this true tube."""
    sample = Sample(f"s{group}", "video_grounding", (), target_of(true))
    return Rollout(sample, group, index, "", Finish.STOP, 0, 0, parsed=answer)
