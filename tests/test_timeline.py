"""Timelines: what the indices of answers mean, and tubes on their grid and off it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers_tubes import PICTURE, still
from hypothesis import given
from hypothesis import strategies as st

from vlrl.geometry.boxes import Frame
from vlrl.media.frame_sampling import sample_frames
from vlrl.video.timeline import Timeline
from vlrl.video.tubes import Track, Tube


def line(unit: str, num: int = 100, fps: float = 25.0, start: int = 0) -> Timeline:
    return Timeline(unit, sample_frames(num, fps, 2.0), fps, num, start, "after")


def test_indices_of_sampled_frames_stand_for_native_spans():
    sampled = line("sampled_frame")
    assert sampled.natives == (0, 12, 25, 37, 50, 62, 75, 87)
    assert sampled.native_span(2, 4) == (25, 61)
    assert sampled.native_span(6, 7) == (75, 99)
    assert sampled.native_span(6, 40) == (75, 99)
    assert line("second").natives == (0, 25, 50, 75)
    assert line("second").native_span(1, 1) == (25, 49)
    assert line("native_frame").native_span(3, 8) == (3, 8)
    one = line("sampled_frame", start=1)
    assert one.native(1) == 0
    assert one.last == 8
    assert one.native_span(3, 5) == (25, 61)
    assert one.seconds(3) == 1.0


def test_an_index_stands_for_the_frames_around_it():
    sampled = Timeline("sampled_frame", (0, 12, 25, 37, 50), 25.0, 60)
    assert sampled.native_span(1, 2) == (7, 31)
    assert sampled.native_span(0, 4) == (0, 59)
    assert sampled.native_span(3, 3) == (32, 43)
    # Neighbours share no frame and leave none out.
    ends = [sampled.native_span(k, k) for k in range(5)]
    assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(ends))
    every = Timeline("native_frame", (0, 12), 25.0, 60)
    assert every.native_span(3, 8) == (3, 8)


@given(st.integers(0, 4000), st.integers(10, 400))
def test_spans_around_samples_are_right_on_average(first, count):
    """At two frames a second, ends are off by at most half a step."""
    frames = sample_frames(5000, 25.0, 2.0)
    grid = Timeline("sampled_frame", frames, 25.0, 5000)
    true = Tube(first, np.tile([10.0, 10, 30, 30], (count, 1)), PICTURE)
    inside = grid.on_grid(true)
    start, end = grid.native_span(inside.first, inside.last)
    assert abs(start - true.first) <= 7 or len(inside.boxes) == 1
    assert abs(end - true.last) <= 7 or len(inside.boxes) == 1


@pytest.mark.parametrize("unit", ["sampled_frame", "second", "native_frame"])
@pytest.mark.parametrize("start", [0, 1])
def test_a_short_event_is_one_index(unit, start):
    """0.4 s at two frames a second holds one sampled frame or none."""
    grid = line(unit, start=start)
    short = Tube(14, np.tile([10.0, 10, 30, 30], (10, 1)), PICTURE)
    truth = grid.on_grid(short)
    assert truth.first >= start
    assert len(truth.boxes) == (10 if unit == "native_frame" else 1)
    long = Tube(20, np.tile([10.0, 10, 30, 30], (60, 1)), PICTURE)
    for k in range(grid.on_grid(long).first, grid.on_grid(long).last + 1):
        assert 20 <= grid.native(k) <= 79


@given(st.integers(0, 99), st.integers(1, 60), st.sampled_from(["sampled_frame", "second"]))
def test_the_grid_holds_the_tube_and_keeps_its_boxes(first, count, unit):
    grid = line(unit)
    boxes = np.array([[k, 0.0, k + 10, 10.0] for k in range(count)])
    tube_ = Tube(first, boxes, Frame(500, 500))
    truth = grid.on_grid(tube_)
    assert grid.start_at <= truth.first <= truth.last <= grid.last
    for k in range(truth.first, truth.last + 1):
        assert truth.at(k).tolist() == tube_.near(grid.native(k)).tolist()


def test_a_tube_between_two_samples_goes_to_the_one_nearest_its_middle():
    """The middle of 17 to 24 is nearer to 25, its beginning to 12."""
    grid = Timeline("sampled_frame", (0, 12, 25, 37), 25.0, 50)
    truth = grid.on_grid(still(17, 24))
    assert truth.span == (2, 2)
    assert grid.native(truth.first) == 25


@pytest.mark.parametrize("edges", ["around", "after"])
@pytest.mark.parametrize("start", [0, 1])
def test_boxes_off_the_grid_are_of_no_frame(start, edges):
    """An answer beyond the last index keeps the last box; likewise before the first."""
    grid = Timeline("sampled_frame", (0, 10, 20), 10.0, 30, start, edges)
    boxes = {k: (k, k, k + 40.0, k + 40.0) for k in range(-2, 9)}

    def scored(span, given_boxes):
        return grid.on_native_frames(span, Track(given_boxes, PICTURE))

    kept = {k: boxes[k] for k in range(start, start + 3)}
    for written in (boxes, dict(reversed(boxes.items()))):
        span, track = scored((start - 2, start + 5), written)
        assert span == (0, 29)
        assert track.boxes == scored((start, start + 2), kept)[1].boxes
        for place, native in enumerate(grid.natives):
            assert track.boxes[native] == boxes[start + place]
    # Without one box on the grid there is none at all.
    assert scored((start + 1, start + 5), {start + 4: boxes[0]})[1].boxes == {}
