"""Verdicts, refusals and paired statistics, against hand-worked cases."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrl.families.profiles import PROFILES, profile_named
from vlrl.geometry.boxes import Box, Frame, Point, iou, overlap
from vlrl.gui.data.rows import in_pixels, written_box
from vlrl.gui.refusal import read_click
from vlrl.gui.verdict import Outcome, Refusal, judge, polygon_of
from vlrl.stats import mcnemar

ROOT = Path(__file__).resolve().parent.parent
SCREEN = Frame(1920, 1080)
BOX = Box(100, 100, 200, 140, SCREEN)
TRIANGLE = polygon_of([0, 0, 100, 0, 0, 100], SCREEN)


@pytest.mark.parametrize(
    ("answer", "target", "outcome", "reason"),
    [
        (Point(150, 120, SCREEN), BOX, Outcome.CORRECT, "inside"),
        (Point(200, 140, SCREEN), BOX, Outcome.CORRECT, "inside"),
        (Point(200.5, 140, SCREEN), BOX, Outcome.WRONG, "outside by 0.5 px"),
        (Point(97, 96, SCREEN), BOX, Outcome.WRONG, "outside by 5.0 px"),
        (Point(0.078125, 0.1111, Frame(1, 1)), BOX, Outcome.CORRECT, "inside"),
        (Point(30, 30, SCREEN), TRIANGLE, Outcome.CORRECT, "inside"),
        (Point(50, 50, SCREEN), TRIANGLE, Outcome.CORRECT, "inside"),
        (Point(60, 60, SCREEN), TRIANGLE, Outcome.WRONG, "outside by 0.0 px"),
        (None, BOX, Outcome.WRONG_FORMAT, "no place in the answer"),
        (None, Refusal(), Outcome.WRONG_FORMAT, "no place in the answer"),
        (Refusal(), Refusal(), Outcome.CORRECT, "refused, rightly"),
        (Refusal(), BOX, Outcome.WRONG, "refused, but the target is there"),
        (Point(0, 0, SCREEN), Refusal(), Outcome.WRONG, "clicked where it should refuse"),
    ],
)
def test_a_click_is_judged_with_its_reason(
    answer: object, target: object, outcome: Outcome, reason: str
) -> None:
    verdict = judge(answer, target)  # type: ignore[arg-type]
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@pytest.mark.parametrize("side", [364, 390, 540, 900, 1080, 1440, 1692, 2160, 2556, 2880])
@pytest.mark.parametrize("frame", [Frame(1000, 1000), Frame(999, 999), Frame(1932, 1092)])
def test_a_click_on_any_whole_edge_is_inside(side: int, frame: Frame) -> None:
    screen = Frame(side, side)
    for axis, whole in enumerate(frame.extent):
        for number in range(int(whole) + 1):
            edge, rest = divmod(number * side, int(whole))
            if rest:
                continue
            click = Point(number, number, Frame(whole, whole))
            assert click.to(screen) == Point(edge, edge, screen), axis
            for box in (Box(edge, edge, edge + 9, edge + 9, screen), Box(0, 0, edge, edge, screen)):
                assert judge(click, box).outcome is Outcome.CORRECT
                assert judge(click.to(screen), box).outcome is Outcome.CORRECT


@pytest.mark.parametrize("side", [540, 1080, 1440, 1600, 2160, 2560, 3840])
def test_an_edge_written_as_a_fraction_is_inside(side: int) -> None:
    """MMBench-GUI writes 0.093 for the edge at which a model clicks with 93 of 1000."""
    screen = Frame(side, side)
    for number in range(1, 1000):
        edge = number / 1000
        click = Point(number, number, Frame(1000, 1000))
        unit = Box(edge, 0, edge, 1, Frame(1, 1))
        assert judge(click, unit).outcome is Outcome.CORRECT
        # MAI-UI's files have the product, rounded; its own evaluation divides that again.
        pixels = Box(edge * side, 0, edge * side, side, screen)
        is_hit = edge * side / side == edge
        assert judge(click, pixels).outcome is (Outcome.CORRECT if is_hit else Outcome.WRONG)
        x1, *_ = in_pixels((edge, 0, edge, 1), "xyxy_unit", side, side)
        assert x1 == click.to(screen).x


def test_sides_are_added_as_they_are_written() -> None:
    assert written_box((0.1, 0.1, 0.2, 0.2), "xywh_unit", 9, 9) == Box(
        0.1, 0.1, 0.3, 0.3, Frame(1, 1)
    )


def test_a_distance_is_in_the_images_pixels() -> None:
    verdict = judge(Point(500, 500, Frame(1000, 1000)), Box(0, 0, 0.25, 1, Frame(1, 1)), SCREEN)
    assert verdict.reason == "outside by 480.0 px"


def test_a_box_without_area_can_be_hit_on_the_spot() -> None:
    line = Box(10, 20, 10, 20, SCREEN)
    assert judge(Point(10, 20, SCREEN), line).outcome is Outcome.CORRECT
    assert judge(Point(10, 21, SCREEN), line).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("text", "profile", "refused"),
    [
        ("[-1,-1]", "ui_venus_1_5", True),
        ('<answer>{"coordinate":[-1, -1]}</answer>', "mai_ui", True),
        ('{"x": null, "y": null}', "holo2", True),
        ('{"action": "terminate", "status": "failure"}', "qwen3_vl_tool", True),
        ('{"result": "negative"}', "gpt", True),
        ("[-1, 20]", "ui_venus_1_5", False),
        ("", "gui_g2", False),
        ("There is no such button", "gui_g2", False),
        ("<think>[-1,-1] maybe</think>[3,4]", "ui_venus_1_5", False),
        ('<think>{"action": "terminate"}</think>', "qwen3_vl_tool", False),
    ],
)
def test_a_refusal_is_told_from_a_click(text: str, profile: str, refused: bool) -> None:
    answer, _ = read_click(text, profile_named(profile), Frame(100, 100))
    assert isinstance(answer, Refusal) == refused


def test_refusal_words_are_the_callers_choice() -> None:
    profile = profile_named("gui_g2")
    answer, _ = read_click("Target NOT existent.", profile, SCREEN, words=("not existent",))
    assert isinstance(answer, Refusal)
    assert read_click("Target NOT existent.", profile, SCREEN)[0] is None


@given(st.text(max_size=80), st.sampled_from(sorted(PROFILES)))
def test_any_text_reads_as_something(text: str, profile: str) -> None:
    answer, box = read_click(text, profile_named(profile), Frame(640, 480))
    assert answer is None or isinstance(answer, Refusal | Point)
    assert box is None or isinstance(answer, Point)


def corners(draw_from: st.SearchStrategy[float]) -> st.SearchStrategy[Box]:
    def ordered(edges: tuple[float, float, float, float]) -> Box:
        x1, y1, x2, y2 = edges
        return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2), Frame(100, 100))

    return st.tuples(draw_from, draw_from, draw_from, draw_from).map(ordered)


@given(corners(st.floats(0, 100)), corners(st.floats(0, 100)))
def test_overlap_agrees_with_iou_and_swaps_precision_and_recall(a: Box, b: Box) -> None:
    value, precision, recall = overlap(a, b)
    assert all(0 <= figure <= 1 + 1e-9 for figure in (value, precision, recall))
    if a.is_valid and b.is_valid:
        both = iou(np.array([a.xyxy]), np.array([b.xyxy]))[0]
        assert value == pytest.approx(both, abs=1e-9)
        assert overlap(b, a) == pytest.approx((value, recall, precision), abs=1e-9)


def test_precision_is_the_share_of_the_answer_and_recall_that_of_the_truth() -> None:
    answer, true = Box(0, 0, 10, 10, SCREEN), Box(0, 0, 10, 40, SCREEN)
    assert overlap(answer, true) == (0.25, 1.0, 0.25)


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 0.0625),
        (5, 0, 0.0625),
        (1, 7, 18 / 256),
        (10, 2, 158 / 4096),
    ],
)
def test_mcnemar_by_hand(b: int, c: int, p: float) -> None:
    assert mcnemar(b, c) == pytest.approx(p)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_symmetric_and_a_probability(b: int, c: int) -> None:
    assert mcnemar(b, c) == mcnemar(c, b)
    assert 0 < mcnemar(b, c) <= 1
    assert math.isfinite(mcnemar(b, c))


def test_a_hundred_thousand_odd_answers_are_read_without_a_crash() -> None:
    # Their time is measured by `benchmarks/score_answers.py`.
    from score_answers import odd_answers

    names = sorted(PROFILES)
    kinds: Counter[str] = Counter()
    for number, text in enumerate(odd_answers(100_000)):
        profile = profile_named(names[number % len(names)])
        answer, _ = read_click(text, profile, Frame(1932, 1092))
        kinds[type(answer).__name__] += 1
        if isinstance(answer, Point):
            assert math.isfinite(answer.x)
            assert math.isfinite(answer.y)
    assert min(kinds["Point"], kinds["NoneType"]) > 10_000, kinds
