"""Answers that are made to be wrong are wrong, and those made to be right are right."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_reasoning import problem, sample_of
from hypothesis import given
from hypothesis import strategies as st

from vlrl.families.profiles import PROFILES
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.answers import parse_answer
from vlrl.gui.near_misses import near_misses
from vlrl.gui.syntax import write_answer
from vlrl.image.nothing_like import nothing_like
from vlrl.mesh.spoilt import spoilt
from vlrl.reasoning.boxes import BoxesTruth
from vlrl.reasoning.final_answer import Form
from vlrl.reasoning.near_misses import shortest_route
from vlrl.reasoning.quantities import Quantity
from vlrl.reasoning.routes import Segment
from vlrl.reasoning.truths import (
    ChoiceTruth,
    ExpressionTruth,
    ListTruth,
    NumberTruth,
    RouteTruth,
    TextTruth,
    Truth,
    YesNoTruth,
)
from vlrl.tasks.visual_reasoning import VisualReasoning
from vlrl.types import Finish, Rollout

FRAME = Frame(56, 56)
BOXES = (Box(2, 2, 20, 20, FRAME), Box(30, 30, 50, 50, FRAME))
TRUTHS: dict[str, Truth] = {
    "choice": ChoiceTruth("B", ("red", "blue", "green")),
    "choice without options": ChoiceTruth("A"),
    "number": NumberTruth(Quantity(7.0)),
    "zero": NumberTruth(Quantity(0.0)),
    "number with tolerance": NumberTruth(Quantity(250.0, "%"), relative=0.1),
    "yes": YesNoTruth(True),
    "no": YesNoTruth(False),
    "text": TextTruth("a red bus"),
    "expression": ExpressionTruth("x^2-1"),
    "fraction": ExpressionTruth("3/4"),
    "list": ListTruth(("red", "blue")),
    "one item": ListTruth(("red",)),
    "ordered list": ListTruth(("1", "2", "3"), ordered=True),
    "box": BoxesTruth(BOXES[:1]),
    "boxes": BoxesTruth(BOXES),
    "route": RouteTruth(problem()),
    "direct route": RouteTruth(problem("Alder", "Castle")),
}
FORMS: tuple[Form, ...] = ("think_answer", "answer", "boxed", "plain")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TRUTHS)
def test_known_answers_of_every_kind_of_question(name: str, form: Form) -> None:
    truth = TRUTHS[name]
    task = VisualReasoning(VisualReasoning.Options(data={}, answer=form))
    sample = sample_of(truth, truth.boxes if isinstance(truth, BoxesTruth) else None)
    known = task.known_answers(sample)
    assert known is not None

    def judged(text: str) -> Rollout:
        return Rollout(sample, 0, 0, text, Finish.STOP, 0, 0, parsed=task.parse(sample, text))

    right = judged(known.right)
    assert task.is_right(right)
    assert right.parsed.well_formed
    assert known.wrong
    for kind, text in known.wrong.items():
        assert not task.is_right(judged(text)), (kind, text)


def test_no_answer_is_known_to_a_question_without_one() -> None:
    task = VisualReasoning(VisualReasoning.Options(data={}))
    nowhere = RouteTruth(problem("Alder", "Nowhere"))
    assert task.known_answers(sample_of(nowhere)) is None


def test_the_shortest_route_has_the_fewest_rides() -> None:
    assert shortest_route(problem("Alder", "Garden")) == (
        Segment("Red Line", "Alder", "Castle"),
        Segment("Blue Line", "Castle", "Fern"),
        Segment("Green Line", "Fern", "Garden"),
    )
    assert shortest_route(problem("Dover", "Alder")) == (Segment("Red Line", "Dover", "Alder"),)


@given(
    st.sampled_from(sorted(PROFILES)),
    st.tuples(st.integers(200, 2000), st.integers(200, 2000)),
    st.tuples(*[st.floats(0, 0.9)] * 2),
    st.tuples(*[st.floats(0.01, 0.6)] * 2),
)
def test_near_misses_miss_however_they_are_written(
    name: str, size: tuple[int, int], place: tuple[float, float], extent: tuple[float, float]
) -> None:
    """Also where the profile writes points, or rounds to thousandths."""
    (width, height), (x, y), (w, h) = size, place, extent
    image = Frame(width, height)
    true = Box(x * width, y * height, min(x + w, 1) * width, min(y + h, 1) * height, image)
    profile = PROFILES[name]
    resized = profile.resized(width, height)
    found = near_misses(true)
    assert found  # there is always a kind that fits
    for kind, box in found.items():
        (read,) = parse_answer(write_answer(box, profile, resized), profile, resized)
        centre = (read.centre if isinstance(read, Box) else read).to(image)
        inside = true.x1 <= centre.x <= true.x2 and true.y1 <= centre.y <= true.y2
        assert not inside, kind


def test_beside_a_box_over_half_of_the_image_is_a_band() -> None:
    found = near_misses(Box(50, 50, 150, 150, Frame(200, 200)))
    assert {kind: box.xyxy for kind, box in found.items()} == {"band": (0, 0, 50, 200)}


def test_where_near_misses_lie() -> None:
    image = Frame(100, 100)
    found = near_misses(Box(40, 10, 60, 20, image))
    assert found["beside"].xyxy == (40, 18, 60, 28)  # half of its height and 3 pixels
    assert found["around"].xyxy == (40, 10, 100, 40)
    assert found["far"].xyxy == (80, 90, 100, 100)
    assert found["swapped"].xyxy == (10, 40, 20, 60)
    assert found["everything"].xyxy == (0, 0, 100, 100)
    # A target in the middle is hit by the whole screen.
    assert "everything" not in near_misses(Box(45, 45, 55, 55, image))


def test_images_that_show_nothing_have_the_same_colours() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    found = nothing_like(image)
    assert set(found) == {"flat", "noise", "shuffled"}
    for kind, other in found.items():
        assert other.shape == image.shape
        assert other.dtype == np.uint8
        assert not np.array_equal(other, image)
        assert other.mean() == pytest.approx(image.mean(), abs=0.5)
        if kind != "flat":
            assert np.array_equal(np.sort(other.reshape(-1)), np.sort(image.reshape(-1)))
    assert "shuffled" not in nothing_like(image[:5, :5])


def test_spoilt_objects_are_other_ones() -> None:
    table = np.zeros((8, 8, 8), dtype=bool)
    table[1:7, 4, 1:6] = True
    table[1, 1:4, 1] = table[6, 1:4, 5] = True
    found = spoilt(table)
    assert set(found) == {"block", "half", "everything", "upside_down"}
    assert found["block"].sum() == 6 * 4 * 5
    assert found["half"].sum() == table[:4].sum()
    assert found["everything"].all()
    assert found["upside_down"][1:7, 1, 1:6].all()
    assert set(spoilt(np.ones((4, 4, 4), dtype=bool))) == {"half"}
    assert spoilt(np.zeros((4, 4, 4), dtype=bool)) == {}
