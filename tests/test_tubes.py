"""Spans, tubes and timelines: hand-worked values and properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from helpers_tubes import PICTURE, still, track_of, tube
from hypothesis import given
from hypothesis import strategies as st

from vlrl.errors import ConfigError, DataError
from vlrl.geometry.boxes import giou
from vlrl.media.frame_sampling import nearest_sample, sample_frames, sampled_fps
from vlrl.video.spans import clamp, merged, span_iou
from vlrl.video.tube_metrics import CONVENTIONS, score_tube, tubedetr_frames
from vlrl.video.tubes import (
    Track,
    Tube,
    frame_scores,
    interpolated,
    is_consistent,
    overlap_frames,
    tube_iou,
)

# ---------------------------------------------------------------- spans


@pytest.mark.parametrize(
    ("one", "other", "closed", "wanted"),
    [
        ([(5, 7)], [(6, 8)], True, 2 / 4),
        ([(5, 7)], [(6, 8)], False, 1 / 3),
        ([(5, 5)], [(5, 5)], True, 1.0),
        ([(5, 5)], [(5, 5)], False, 1.0),  # an instant: 0 / 0 in released code
        ([(5, 5)], [(4, 6)], False, 0.0),
        ([(7, 5)], [(5, 7)], True, 0.0),  # reversed
        ([], [], True, 1.0),
        ([], [(1, 2)], True, 0.0),
        ([(0, 1), (4, 5)], [(0, 5)], True, 4 / 6),
        ([(0, 1), (4, 5)], [(0, 5)], False, 2 / 5),
        ([(0, 2), (1, 3)], [(0, 3)], False, 1.0),  # own spans that overlap count once
        ([(math.nan, 1)], [(0, 1)], False, 0.0),
    ],
)
def test_span_iou_by_hand(one, other, closed, wanted):
    assert span_iou(one, other, closed=closed) == pytest.approx(wanted)


def test_hull_and_union_differ_only_for_several_intervals():
    one, other = [(0.0, 1.0)], [(3.0, 4.0)]
    assert span_iou(one, other, closed=False) == span_iou(one, other, closed=False, hull=True) == 0
    parts = [(0.0, 1.0), (9.0, 10.0)]
    assert span_iou(parts, parts, closed=False) == 1.0
    assert span_iou(parts, parts, closed=False, hull=True) == pytest.approx(0.2)


def test_an_end_beyond_the_video_is_cut():
    assert clamp([(1.0, 40.0), (35.0, 36.0), (-2.0, -1.0)], 30.0) == ((1.0, 30.0),)
    assert clamp([(5.0, 3.0)], 30.0) == ()
    assert merged([(4, 5), (0, 1), (2, 3)], True) == [(0, 5)]
    assert merged([(4, 5), (0, 1), (2, 3)], False) == [(0, 1), (2, 3), (4, 5)]


spans = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda s: (min(s), max(s))), max_size=4
)


@given(spans, spans)
def test_closed_span_iou_equals_counting_frames(one, other):
    a = {k for s, e in one for k in range(s, e + 1)}
    b = {k for s, e in other for k in range(s, e + 1)}
    wanted = len(a & b) / len(a | b) if a | b else 1.0
    assert span_iou(one, other, closed=True) == pytest.approx(wanted)
    assert span_iou(other, one, closed=True) == pytest.approx(wanted)
    assert span_iou(one, other, closed=True, hull=True) <= wanted + 1e-12


# ---------------------------------------------------------------- boxes of a tube

A = np.array([[0.0, 0.0, 2.0, 2.0]])


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((0, 0, 2, 2), 1.0),
        ((2, 0, 4, 2), 0.0),  # adjacent: no overlap, no waste
        ((4, 0, 6, 2), -1 / 3),
        ((1, 1, 3, 3), 1 / 7 - 2 / 9),
    ],
)
def test_giou_by_hand(box, wanted):
    assert giou(A, np.array([box], dtype=float))[0] == pytest.approx(wanted)


def test_giou_of_exchanged_corners_is_the_trap_that_validity_closes():
    assert giou(A, A[:, [2, 3, 0, 1]])[0] <= 0
    true = still(0, 0)
    swapped = Track({0: tuple(true.boxes[0][[2, 3, 0, 1]])}, PICTURE)
    assert frame_scores(swapped, true, [0], missing=-2.0) == [-2.0]


edge = st.floats(0.0, 1.0).map(lambda v: round(v, 6))
box_strategy = st.tuples(edge, edge, edge, edge).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]) + 0.01, max(v[1], v[3]) + 0.01)
)


@given(box_strategy, box_strategy, st.floats(0.1, 50))
def test_giou_is_symmetric_bounded_and_scale_free(a, b, scale):
    x, y = np.array([a]), np.array([b])
    value = giou(x, y)[0]
    assert -1 <= value <= 1 + 1e-12
    assert giou(y, x)[0] == pytest.approx(value)
    assert giou(x * scale, y * scale)[0] == pytest.approx(value, abs=1e-6)


BAD = (
    (60, 60, 20, 20),
    (60, 20, 20, 60),
    (20, 20, 20, 60),
    (math.nan, 0, 1, 1),
    (0, 0, math.inf, 1),
    (900, 900, 950, 950),
)


@pytest.mark.parametrize("box", BAD)
def test_a_bad_box_counts_as_missing(box):
    true = still(0, 1)
    track = Track({0: tuple(map(float, box)), 1: tuple(true.boxes[1])}, PICTURE)
    assert frame_scores(track, true, [0, 1], missing=-2.0) == pytest.approx([-2.0, 1.0])
    assert frame_scores(track, true, [0, 1], missing=None) == pytest.approx([1.0])
    assert tube_iou((0, 1), track, true) == pytest.approx(0.5)


def test_l1_is_taken_in_the_unit_frame():
    true = tube(0, (20, 20, 60, 60))
    full = Track({0: (0.0, 0.0, 200.0, 100.0)}, PICTURE)
    # IoU = 1600 / 20000, hull = the image; |edges| = 0.1 + 0.2 + 0.7 + 0.4
    assert frame_scores(full, true, [0], missing=-2.0) == pytest.approx([0.08 - 1.4])
    huge = Track({0: (-500.0, -500.0, 700.0, 600.0)}, PICTURE)
    assert frame_scores(huge, true, [0], missing=-2.0) == pytest.approx([0.08 - 1.4])


def test_tube_iou_by_hand():
    true = still(2, 5)
    assert tube_iou((2, 5), track_of(true), true) == 1.0
    assert tube_iou((2, 3), track_of(true), true) == pytest.approx(0.5)
    assert tube_iou((4, 9), track_of(true), true) == pytest.approx(2 / 8)
    assert tube_iou((7, 9), track_of(true), true) == 0.0
    assert tube_iou((5, 2), track_of(true), true) == 0.0
    half = Track(dict.fromkeys(range(2, 6), (20.0, 20.0, 60.0, 40.0)), PICTURE)
    assert tube_iou((2, 5), half, true) == pytest.approx(0.5)
    assert list(overlap_frames((5, 7), (7, 9))) == [7]


@pytest.mark.parametrize(
    ("span", "numbers", "wanted"),
    [
        ((5, 7), (5, 6, 7), True),
        ((5, 7), (5, 7), False),  # gap
        ((5, 7), (5, 5, 6, 7), False),  # twice
        ((5, 7), (5, 7, 6), False),  # wrong order
        ((5, 7), (5, 6, 7, 8), False),  # a box too many
        ((7, 5), (5, 6, 7), False),  # reversed
        ((5, 5), (5,), True),
        ((5.5, 7), (5.5, 6.5), False),
        ((0, 1e9), (), False),
    ],
)
def test_boxes_are_consistent_when_they_cover_the_span_exactly(span, numbers, wanted):
    entries = [(float(n), (0.0, 0.0, 1.0, 1.0)) for n in numbers]
    assert is_consistent([span], entries) is wanted
    assert is_consistent([span], entries, entries) is wanted
    assert is_consistent([span], entries, None) is False
    assert is_consistent([], entries) is False


def test_interpolation_is_linear_inside_and_constant_outside():
    track = Track({4: (0.0, 0.0, 10.0, 10.0), 8: (8.0, 4.0, 18.0, 14.0)}, PICTURE)
    dense = interpolated(track, 3, 10)
    assert sorted(dense.boxes) == list(range(3, 11))
    assert dense.boxes[3] == dense.boxes[4] == (0, 0, 10, 10)
    assert dense.boxes[6] == (4, 2, 14, 12)
    assert dense.boxes[10] == (8, 4, 18, 14)
    assert interpolated(Track({}, PICTURE), 0, 3).boxes == {}


def test_a_tube_needs_boxes():
    with pytest.raises(ValueError, match="boxes"):
        Tube(0, np.zeros((0, 4)), PICTURE)
    assert still(0, 1, (5, 5, 5, 9)).bad_frames() == [0, 1]


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    ("num", "native", "fps", "most", "wanted"),
    [
        (32, 8.0, 2.0, None, (0, 4, 8, 12, 16, 20, 24, 28)),
        (33, 8.0, 2.0, None, (0, 4, 8, 12, 16, 20, 24, 28, 32)),
        (50, 25.0, 2.0, None, (0, 12, 25, 37)),
        (5, 2.0, 8.0, None, (0, 1, 2, 3, 4)),
        (100, 25.0, 2.0, 3, (0, 50, 99)),
        (100, 25.0, 2.0, 1, (0,)),
        (1, 30.0, 2.0, None, (0,)),
    ],
)
def test_sampling_by_hand(num, native, fps, most, wanted):
    assert sample_frames(num, native, fps, most) == wanted


@given(st.integers(1, 3000), st.floats(1, 60), st.floats(0.2, 60), st.none() | st.integers(1, 64))
def test_sampling_rises_from_the_first_frame_and_stays_inside(num, native, fps, most):
    frames = sample_frames(num, native, fps, most)
    assert frames[0] == 0
    assert frames[-1] < num
    assert all(a < b for a, b in itertools.pairwise(frames))
    assert most is None or len(frames) <= most
    assert sampled_fps(frames, native) > 0
    assert nearest_sample(frames, frames[-1]) == len(frames) - 1


def test_a_video_without_frames_or_rate_is_an_error():
    for num, native in ((0, 25.0), (10, 0.0), (10, math.nan)):
        with pytest.raises(DataError):
            sample_frames(num, native, 2.0)
    with pytest.raises(DataError):
        sample_frames(10, 25.0, 0.0)


# ---------------------------------------------------------------- the three conventions


def scored(span, track, true, convention, num_frames=100, fps=25.0, first_frame=0):
    score = score_tube(
        span, track, true, convention=convention, num_frames=num_frames, fps=fps,
        first_frame=first_frame,
    )  # fmt: skip
    return (score.t_iou, score.v_iou, score.gt_v_iou)


@given(st.integers(0, 90), st.integers(1, 90), st.floats(5.0, 60.0))
def test_a_perfect_tube_is_one_but_for_frames_that_a_convention_leaves_out(first, count, fps):
    true = still(first, first + count - 1)

    def found(convention):
        return scored(true.span, track_of(true), true, convention, 180, fps)

    assert found("official") == (1, 1, 1)
    # A true span ends before its last frame, a predicted one after it.
    cut = (count - 1) / count
    assert found("cgstvg") == pytest.approx((cut, cut, 1))
    has_sample = float(any(true.first <= k <= true.last for k in tubedetr_frames(180, fps)))
    assert found("tubedetr") == pytest.approx((1, has_sample, has_sample))


def test_conventions_by_hand():
    """Truth: frames 10 to 29, half the box right; answer: frames 20 to 39; 100 frames at 25."""
    true = still(10, 29)
    half = Track(dict.fromkeys(range(20, 40), (20.0, 20.0, 60.0, 40.0)), PICTURE)
    # Both ends included: 10 common frames of 30.
    assert scored((20, 39), half, true, "official") == pytest.approx((10 / 30, 5 / 30, 5 / 20))
    # Every fifth frame: 10..35 in the union, 20 and 25 in both; truth has 10, 15, 20, 25.
    assert scored((20, 39), half, true, "tubedetr") == pytest.approx((10 / 30, 1.0 / 6, 1.0 / 4))
    # 10 to 29 and 20 to 40: 9 of 30; frames 20 to 28 are scored, 20 to 29 for gt_vIoU.
    assert scored((20, 39), half, true, "cgstvg") == pytest.approx((9 / 30, 4.5 / 30, 5 / 20))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gt_viou_is_about_boxes_wherever_the_span_is(convention):
    true = still(0, 9)
    assert scored((0, 4), track_of(true), true, convention, 20, 5.0)[2] == 1.0
    assert scored((12, 14), track_of(true), true, convention, 20, 5.0) == (0, 0, 1)


def test_missing_boxes_lower_the_official_tiou_only():
    true = still(0, 9)
    part = Track(dict.fromkeys(range(5), (20.0, 20.0, 60.0, 60.0)), PICTURE)
    assert scored((0, 9), part, true, "official", 11, 5.0) == pytest.approx((0.5, 0.5, 0.5))
    assert scored((0, 9), part, true, "tubedetr", 11, 5.0) == pytest.approx((1, 0.5, 0.5))
    assert scored((0, 9), part, true, "cgstvg", 11, 5.0) == pytest.approx((0.9, 0.5, 0.5))


@given(
    st.integers(0, 60), st.integers(1, 40), st.integers(0, 60), st.integers(1, 40),
    st.sampled_from(CONVENTIONS),
)  # fmt: skip
def test_scores_stay_in_the_unit_interval(a, n, b, m, convention):
    true = still(a, a + n - 1)
    answer = track_of(still(b, b + m - 1, (30, 20, 70, 60)))
    score = score_tube(
        (b, b + m - 1), answer, true, convention=convention, num_frames=120, fps=12.0
    )
    for value in (score.t_iou, score.v_iou, score.gt_v_iou):
        assert 0 <= value <= 1


def test_reversed_spans_and_unknown_conventions():
    true = still(0, 9)
    reversed_ = score_tube(
        (9, 0), track_of(true), true, convention="official", num_frames=10, fps=5.0
    )
    assert reversed_.t_iou == reversed_.v_iou == 0
    with pytest.raises(ConfigError, match="did you mean 'cgstvg'"):
        score_tube((0, 9), track_of(true), true, convention="cgsvtg", num_frames=10, fps=5.0)


def test_tubedetr_samples_five_frames_a_second_and_two_hundred_at_most():
    assert tubedetr_frames(26, 25.0) == [0, 5, 10, 15, 20], "never the last one"
    assert tubedetr_frames(4, 3.0) == [0, 1, 2]
    assert tubedetr_frames(1, 25.0) == [0]
    assert len(tubedetr_frames(20 * 300, 25.0)) == 200


def test_tubedetr_counts_a_clips_frames_as_its_file_does():
    """At 30 fps multiples of 6 are sampled: of a clip from 323 on 0, 1, 7, ..."""
    assert tubedetr_frames(20, 30.0, 323) == [0, 1, 7, 13]
    true = still(108, 114)
    half = Track(dict.fromkeys(range(108, 115), (20.0, 20.0, 60.0, 40.0)), PICTURE)
    half.boxes[109] = (20.0, 20.0, 60.0, 60.0)  # 432 in the file: the only one sampled
    assert scored((108, 114), half, true, "tubedetr", 300, 30.0, 323) == (1.0, 1.0, 1.0)
    assert scored((108, 114), half, true, "tubedetr", 300, 30.0) == (1.0, 0.5, 0.5)


def test_a_threshold_is_passed_only_above_it():
    true = still(0, 9)
    # 3 of 10 frames right: exactly 0.3.
    part = Track(dict.fromkeys(range(3), (20.0, 20.0, 60.0, 60.0)), PICTURE)
    score = score_tube((0, 2), part, true, convention="official", num_frames=10, fps=5.0)
    assert score.v_iou == 0.3
    assert not score.v_iou > 0.3
