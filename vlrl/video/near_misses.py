"""Spans and boxes that are near the true ones, and wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlrl.geometry.boxes import Box, Frame
from vlrl.video.timeline import Timeline
from vlrl.video.track_answers import TrackFormat, write_track
from vlrl.video.tubes import Track, Tube, tube_iou

WRITTEN = ("stvg_o1", "stvg")
"""Formats of answers that can be written."""
MOST = 0.4
"""vIoU of a near miss; it is right above 0.5, and loses or gains a little by being written."""


def written(track: Tube, form: TrackFormat, frame: Frame) -> str:
    """An answer with a track's span and boxes; frame: what its numbers are in."""
    boxes = [
        Box(x1, y1, x2, y2, track.frame).to(frame).xyxy for x1, y1, x2, y2 in track.boxes.tolist()
    ]
    thought: Sequence[Sequence[float]] | None = boxes if form.has_thinking else None
    return write_track(
        track.first, track.last, thought, boxes, decimals=4 if max(frame.extent) <= 1 else 0
    )


def near_misses(true: Tube, timeline: Timeline) -> dict[str, Tube]:
    """By kind; kinds for which there is no room, and those above MOST, are left out.

    late or early: the boxes at another time, as far away as they last. beside: moved by their own
    width. everything: the whole image at the right time. all_the_time: the right boxes, and the
    nearest ones at all other times.
    """
    num = len(true.boxes)
    found: dict[str, Tube] = {}
    if true.last + num <= timeline.last:
        found["late"] = Tube(true.first + num, true.boxes, true.frame)
    elif true.first - num >= timeline.start_at:
        found["early"] = Tube(true.first - num, true.boxes, true.frame)
    width = true.boxes[:, 2] - true.boxes[:, 0]
    room = true.frame.width - true.boxes[:, 2]
    shift = np.where(room >= width, width, -np.minimum(width, true.boxes[:, 0]))
    if (np.abs(shift) > 0).all():
        moved = true.boxes + np.stack([shift, 0 * shift, shift, 0 * shift], 1)
        found["beside"] = Tube(true.first, moved, true.frame)
    whole = np.array([0.0, 0.0, *true.frame.extent])
    found["everything"] = Tube(true.first, np.tile(whole, (num, 1)), true.frame)
    if timeline.last - timeline.start_at + 1 > num:
        places = np.arange(timeline.start_at, timeline.last + 1) - true.first
        boxes = true.boxes[np.clip(places, 0, num - 1)]
        found["all_the_time"] = Tube(timeline.start_at, boxes, true.frame)
    return {kind: tube for kind, tube in found.items() if _overlap(tube, true) <= MOST}


def _overlap(tube: Tube, true: Tube) -> float:
    edges = [(x1, y1, x2, y2) for x1, y1, x2, y2 in tube.boxes.tolist()]
    track = Track(dict(enumerate(edges, start=tube.first)), tube.frame)
    return tube_iou(tube.span, track, true)
