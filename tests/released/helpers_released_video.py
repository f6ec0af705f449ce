"""Written answers as the rewards see them, for comparisons with released code."""

from __future__ import annotations

from collections.abc import Sequence

from vlrl.geometry.boxes import Frame
from vlrl.reward.tree import build_reward
from vlrl.types import Finish, Rollout, Sample
from vlrl.video.spans import Interval, clamp
from vlrl.video.timeline import Timeline
from vlrl.video.track_answers import format_named, read_track
from vlrl.video.tubes import Tube
from vlrl.video.video_answers import TimedBoxes, VideoTarget, answer_from

SECONDS = 60
LINE = Timeline("sampled_frame", tuple(range(8)), 8 / SECONDS, 8)


def answered(
    text: str,
    form: str,
    *,
    spans: Sequence[Interval] = (),
    track: Tube | None = None,
    timed: Sequence[TimedBoxes] = (),
    frame: Frame | None = None,
) -> Rollout:
    """One answer in the named format about a video of 60 s, read as the task reads it."""
    closed = format_named(form).unit == "index"
    target = VideoTarget(clamp(spans, SECONDS), closed, track, None, tuple(timed), LINE)
    here = frame or Frame(1, 1)
    parsed = answer_from(read_track(text, form), format_named(form), target, here, here, "last")
    sample = Sample("s", "video_grounding", (), target)
    return Rollout(sample, 0, 0, text, Finish.STOP, 0, 0, parsed=parsed)


def scored(node: dict[str, object], rollout: Rollout) -> float:
    """The reward of one answer."""
    (score,) = build_reward(node)([rollout])
    assert score.value is not None
    return score.value
