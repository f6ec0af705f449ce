"""The target in a video, and what an answer says about it, in the video's own pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vlrl.geometry.boxes import Box, Frame
from vlrl.video.spans import Interval, clamp
from vlrl.video.timeline import Timeline
from vlrl.video.track_answers import Entry, TrackFormat, WrittenTrack
from vlrl.video.tubes import Edges, Track, Tube, is_consistent

Duplicates = Literal["last", "first", "drop"]


@dataclass(frozen=True)
class TimedBoxes:
    """Boxes with one time: the objects of a key frame, or what an answer claims of one moment."""

    time_s: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class VideoTarget:
    """The target."""

    spans: tuple[Interval, ...]
    """On the answer's index (`closed`), or in seconds."""
    closed: bool
    """Whether both ends of a span belong to it: whole frames."""
    track: Tube | None
    """True boxes on the answer's index; None where only times are known."""
    tube: Tube | None
    """True boxes on native frames, in pixels."""
    timed: tuple[TimedBoxes, ...]
    """The true boxes with their times in seconds: those of `track`, or the objects of key
    frames."""
    timeline: Timeline
    labels: Mapping[str, str] = field(default_factory=dict)
    first_frame: int = 0
    """Where the clip begins in its file; frames count from there."""


@dataclass(frozen=True)
class VideoAnswer:
    """What was read in an answer; boxes in the original video's pixels."""

    spans: tuple[Interval, ...]
    think: Track | None
    final: Track | None
    well_formed: bool
    consistent: bool
    timed: tuple[TimedBoxes, ...]
    """The boxes of the prediction with their times in seconds, in the order written."""
    times: tuple[float, ...] = ()
    """All times in seconds that the prediction names, with boxes or without."""

    def track_of(self, which: Literal["think", "final"]) -> Track | None:
        """The boxes of the thinking, or those of the prediction."""
        return self.think if which == "think" else self.final


def answer_from(
    written: WrittenTrack,
    form: TrackFormat,
    target: VideoTarget,
    own: Frame,
    here: Frame,
    duplicates: Duplicates,
) -> VideoAnswer | None:
    """An answer in the video's pixels (`here`) from one whose numbers are in the frame `own`.

    Spans of indices that are not whole numbers are left out, spans of seconds are clipped to the
    video; None where neither a span, a box nor a time is left, and an empty list is not what the
    answer says.
    """
    spans = _spans(written.spans, target)
    says_something = written.says_none or written.think or written.final or written.times
    if not spans and not says_something:
        return None
    lists = [written.final] + ([written.think] if form.has_thinking else [])
    closed = form.unit == "index"
    claims = written.claims
    if claims is None:
        claims = tuple(
            (target.timeline.seconds(number) if closed else number, (box,))
            for number, box in written.final or ()
        )
    timed = tuple(
        TimedBoxes(time, tuple(Box(*box, own).to(here) for box in boxes)) for time, boxes in claims
    )
    return VideoAnswer(
        spans,
        _track(written.think, own, here, duplicates),
        _track(written.final, own, here, duplicates),
        written.well_formed,
        closed and form.has_boxes and is_consistent(written.spans, *lists),
        timed,
        tuple(one.time_s for one in timed) if written.times is None else written.times,
    )


def _spans(spans: Sequence[Interval], target: VideoTarget) -> tuple[Interval, ...]:
    if target.closed:
        return tuple(s for s in spans if s[0] == int(s[0]) and s[1] == int(s[1]))
    return clamp(spans, target.timeline.num_frames / target.timeline.fps)


def _track(
    entries: Sequence[Entry] | None, own: Frame, here: Frame, duplicates: Duplicates
) -> Track | None:
    if entries is None:
        return None
    boxes: dict[int, Edges] = {}
    twice: set[int] = set()
    for number, box in entries:
        index = int(number)
        if index != number or (index in boxes and duplicates == "first"):
            continue
        if index in boxes and duplicates == "drop":
            twice.add(index)
        boxes[index] = box
    for index in twice:
        del boxes[index]
    return Track(boxes, own).to(here)
