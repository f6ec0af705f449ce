"""tIoU, vIoU and gt_vIoU of a tube on native frames, in the conventions of three evaluations.

    official   HC-STVG's eval_hcvg.py: both ends belong to a span; tIoU counts the frames for which
               both sides have a box, over max(last) - min(first) + 1
    tubedetr   TubeDETR: spans are half open; boxes count at five frames a second, at most 200 of
               them; tIoU on native frame numbers (its early releases took the wrong end of the
               union, issue 3: here as corrected)
    cgstvg     CG-STVG, TA-STVG: every native frame counts, but a span is measured last - first,
               so its last frame is never scored and each length is one short

A perfect tube is 1 in each. Where a release divides 0 by 0 (a span of one frame, a span between two
scored frames), the nearest sound reading is taken, and noted below. Sources: the three
repositories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vlrl.errors import ConfigError, did_you_mean
from vlrl.video.tubes import Track, Tube, frame_ious

Convention = Literal["official", "tubedetr", "cgstvg"]
CONVENTIONS: tuple[str, ...] = get_args(Convention)
TUBEDETR_FPS = 5
TUBEDETR_MAX_FRAMES = 200


@dataclass(frozen=True)
class TubeScore:
    """Metrics of one answer, each in [0, 1]."""

    t_iou: float
    v_iou: float
    gt_v_iou: float
    """Mean IoU over the true frames: how well the boxes fit, wherever the span is."""


NOTHING = TubeScore(0.0, 0.0, 0.0)
"""What an unreadable or missing answer scores; it stays in the denominator."""


def score_tube(
    span: tuple[int, int],
    track: Track,
    true: Tube,
    *,
    convention: str,
    num_frames: int,
    fps: float,
) -> TubeScore:
    """Score a predicted span with its boxes against the true tube, all on native frames.

    span: both ends included. track: boxes by native frame; a missing one has IoU 0.
    Raises ConfigError for an unknown convention.
    """
    if span[1] < span[0]:
        return NOTHING
    if convention == "official":
        return _official(span, track, true)
    if convention == "tubedetr":
        return _half_open(span, track, true, tubedetr_frames(num_frames, fps))
    if convention == "cgstvg":
        return _cgstvg(span, track, true)
    raise ConfigError(f"unknown convention {convention!r}; {did_you_mean(convention, CONVENTIONS)}")


def tubedetr_frames(num_frames: int, fps: float) -> list[int]:
    """Native frames that TubeDETR samples: one whenever floor(frame x 5 / fps) goes up."""
    rate = min(1.0, TUBEDETR_FPS / fps)
    frames = [0]
    for frame in range(num_frames):
        if int(frames[-1] * rate) < int(frame * rate):
            frames.append(frame)
    if len(frames) > TUBEDETR_MAX_FRAMES:
        num = len(frames)
        frames = [frames[k * num // TUBEDETR_MAX_FRAMES] for k in range(TUBEDETR_MAX_FRAMES)]
    return frames


def _official(span: tuple[int, int], track: Track, true: Tube) -> TubeScore:
    all_frames = max(span[1], true.last) - min(span[0], true.first) + 1
    inside = [k for k in range(true.first, true.last + 1) if span[0] <= k <= span[1]]
    # A frame of the span without a box lowers tIoU too: only common boxes are counted.
    boxed = [k for k in inside if k in track.boxes]
    ious = frame_ious(track, true, boxed)
    return TubeScore(
        len(boxed) / all_frames,
        math.fsum(ious) / all_frames,
        math.fsum(ious) / len(true.boxes),
    )


def _half_open(
    span: tuple[int, int], track: Track, true: Tube, sampled: Sequence[int]
) -> TubeScore:
    """TubeDETR: lengths of half-open spans on native frames, boxes on the sampled ones."""
    low, high = max(span[0], true.first), min(span[1], true.last) + 1
    both = max(0, high - low)
    either = (span[1] + 1 - span[0]) + len(true.boxes) - both
    start, end = min(span[0], true.first), max(span[1], true.last) + 1
    union = [k for k in sampled if start <= k < end]
    if not any(true.first <= k <= true.last for k in union):
        # A true span between two sampled frames: its own native frames are scored instead.
        union = list(range(start, end))
    scored = [k for k in union if true.first <= k <= true.last]
    ious = frame_ious(track, true, scored)
    inside = np.array([low <= k < high for k in scored])
    return TubeScore(
        both / either,
        float(ious[inside].sum()) / len(union),
        float(ious.mean()),
    )


def _cgstvg(span: tuple[int, int], track: Track, true: Tube) -> TubeScore:
    """CG-STVG: a span is measured from its first to its last frame, at least one frame."""
    # The release gives a span of one frame the length 0, and so 0 to a perfect answer.
    ours = (span[0], max(span[1], span[0] + 1))
    theirs = (true.first, max(true.last, true.first + 1))
    low, high = max(ours[0], theirs[0]), min(ours[1], theirs[1])
    both = max(0, high - low)
    either = (ours[1] - ours[0]) + (theirs[1] - theirs[0]) - both
    union = max(ours[1], theirs[1]) - min(ours[0], theirs[0])
    frames = list(range(true.first, true.last + 1))
    ious = frame_ious(track, true, frames)
    inside = np.array([low <= k < high for k in frames])
    return TubeScore(
        both / either,
        float(ious[inside].sum()) / union,
        float(ious.mean()),
    )
