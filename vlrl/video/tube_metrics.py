"""tIoU, vIoU and gt_vIoU of a tube on native frames, in the conventions of three evaluations.

    official   HC-STVG's eval_hcvg.py: both ends belong to a span; tIoU counts the frames for which
               both sides have a box, over max(last) - min(first) + 1
    tubedetr   TubeDETR: spans are half open, tIoU on native frame numbers; boxes count at five
               frames a second, at most 200 of them, never the clip's last frame (its early releases
               took the wrong end of the union, issue 3: here as corrected)
    cgstvg     CG-STVG, TA-STVG: every native frame counts, but the true span ends before its last
               frame and the predicted one after it

A perfect tube is 1 in `official`. In `cgstvg` its tIoU is 1 - 1 / n, 0 for a single frame; in
`tubedetr` its vIoU is 1, or 0 where no sampled frame lies in it. Sources: the three repositories.
"""

from __future__ import annotations

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
    first_frame: int = 0,
) -> TubeScore:
    """Score a predicted span with its boxes against the true tube, all on native frames.

    span: both ends included. track: boxes by native frame; a missing one has IoU 0. first_frame:
    where the clip begins in its file. Raises ConfigError for an unknown convention.
    """
    if span[1] < span[0]:
        return NOTHING
    if convention == "official":
        return _official(span, track, true)
    if convention == "tubedetr":
        return _half_open(span, track, true, tubedetr_frames(num_frames, fps, first_frame))
    if convention == "cgstvg":
        return _cgstvg(span, track, true)
    raise ConfigError(f"unknown convention {convention!r}; {did_you_mean(convention, CONVENTIONS)}")


def tubedetr_frames(num_frames: int, fps: float, first_frame: int = 0) -> list[int]:
    """Frames of a clip that TubeDETR samples: one whenever floor(number x 5 / fps) goes up.

    The numbers are the file's; the clip's first frame is sampled, its last one never.
    """
    rate = min(1.0, TUBEDETR_FPS / fps)
    frames = [first_frame]
    for frame in range(first_frame, first_frame + num_frames - 1):
        if int(frames[-1] * rate) < int(frame * rate):
            frames.append(frame)
    if len(frames) > TUBEDETR_MAX_FRAMES:
        num = len(frames)
        frames = [frames[k * num // TUBEDETR_MAX_FRAMES] for k in range(TUBEDETR_MAX_FRAMES)]
    return [frame - first_frame for frame in frames]


def _official(span: tuple[int, int], track: Track, true: Tube) -> TubeScore:
    """HC-STVG's script; gt_vIoU, which it does not have, as TubeDETR defines it."""
    frames = list(range(true.first, true.last + 1))
    ious = frame_ious(track, true, frames)
    inside = np.array([span[0] <= k <= span[1] for k in frames])
    # A frame of the span without a box lowers tIoU too: only common boxes are counted.
    num_boxed = sum(k in track.boxes for k in frames if span[0] <= k <= span[1])
    either = max(span[1], true.last) - min(span[0], true.first) + 1
    return TubeScore(num_boxed / either, float(ious[inside].sum()) / either, float(ious.mean()))


def _half_open(
    span: tuple[int, int], track: Track, true: Tube, sampled: Sequence[int]
) -> TubeScore:
    """TubeDETR: lengths of half-open spans on native frames, boxes on the sampled ones."""
    ours, theirs = (span[0], span[1] + 1), (true.first, true.last + 1)
    start, end = min(ours[0], theirs[0]), max(ours[1], theirs[1])
    return _measured(
        ours,
        theirs,
        track,
        true,
        scored=[k for k in sampled if true.first <= k <= true.last],
        num_either=sum(start <= k < end for k in sampled),
    )


def _cgstvg(span: tuple[int, int], track: Track, true: Tube) -> TubeScore:
    """CG-STVG: its post-processor adds 1 to the predicted last frame, its truth has it as it is."""
    ours, theirs = (span[0], span[1] + 1), true.span
    return _measured(
        ours,
        theirs,
        track,
        true,
        scored=range(true.first, true.last + 1),
        num_either=max(ours[1], theirs[1]) - min(ours[0], theirs[0]),
    )


def _measured(
    ours: tuple[int, int],
    theirs: tuple[int, int],
    track: Track,
    true: Tube,
    *,
    scored: Sequence[int],
    num_either: int,
) -> TubeScore:
    """Half-open spans; IoU summed over scored frames in both, over `num_either` frames.

    scored: frames of the true tube whose boxes count; where there is none, boxes score 0.
    """
    low, high = max(ours[0], theirs[0]), min(ours[1], theirs[1])
    both = max(0, high - low)
    either = (ours[1] - ours[0]) + (theirs[1] - theirs[0]) - both
    if not len(scored):
        return TubeScore(both / either, 0.0, 0.0)
    ious = frame_ious(track, true, scored)
    inside = np.array([low <= k < high for k in scored])
    total = float(ious[inside].sum())
    return TubeScore(both / either, total / max(1, num_either), float(ious.mean()))
