"""GenEval's rules on given boxes: hand-worked images, then properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrl.errors import DataError
from vlrl.image.geneval import (
    COLOURS,
    RELATIONS,
    Found,
    judge,
    keep,
    overlap,
    relations,
    scene_of,
    to_be_coloured,
    with_colours,
)
from vlrl.stats import macro_mean


def at(x: float, y: float, colour: str | None = None, side: float = 20.0) -> Found:
    """A square object whose centre is there."""
    return Found((x - side / 2, y - side / 2, x + side / 2, y + side / 2), 0.9, colour)


DOG = {"class": "dog", "count": 1}
CAT = {"class": "cat", "count": 1}
CAT_RIGHT = {**CAT, "position": ["right of", 0]}
THREE = {"include": [{"class": "dog", "count": 3}], "exclude": [{"class": "dog", "count": 4}]}
RED = {"include": [{**DOG, "color": "red"}]}
TWO_RED = {"include": [{"class": "dog", "count": 2, "color": "red"}]}
BESIDE = {"include": [DOG, CAT_RIGHT]}
DOGS = [at(30 * i, 0) for i in range(6)]

# scene, objects -> (score, score as released), GenEval's verdict, strict verdict.
TABLE = {
    "nothing found": ({"include": [DOG]}, {}, (0, 0), False, False),
    "one found": ({"include": [DOG]}, {"dog": DOGS[:1]}, (1, 1), True, True),
    # GenEval looks at the most confident one; the strict verdict and the credit do not.
    "one too many": ({"include": [DOG]}, {"dog": DOGS[:2]}, (0, 0), True, False),
    # 1 - |1 - 4| / 1 = -2, kept at 0 here.
    "three too many": ({"include": [DOG]}, {"dog": DOGS[:4]}, (0, -2), True, False),
    "one of two classes": ({"include": [DOG, CAT]}, {"cat": DOGS[:1]}, (0.5, 0.5), False, False),
    "other classes do not count": ({"include": [DOG]}, {"cat": DOGS}, (0, 0), False, False),
    "two of three": (THREE, {"dog": DOGS[:2]}, (2 / 3, 2 / 3), False, False),
    "three of three": (THREE, {"dog": DOGS[:3]}, (1, 1), True, True),
    "four of three": (THREE, {"dog": DOGS[:4]}, (2 / 3, 2 / 3), False, False),
    "red": (RED, {"dog": [at(0, 0, "red")]}, (1, 1), True, True),
    "blue": (RED, {"dog": [at(0, 0, "blue")]}, (0.5, 0.5), False, False),
    # The first is the right one, but there are two: no colour is credited.
    "red and blue": (
        RED,
        {"dog": [at(0, 0, "red"), at(50, 0, "blue")]},
        (0, 0),
        True,
        False,
    ),
    "one red of two": (
        TWO_RED,
        {"dog": [at(0, 0, "red"), at(50, 0, "blue")]},
        (0.75, 0.75),
        False,
        False,
    ),
    "to the right": (BESIDE, {"dog": [at(0, 0)], "cat": [at(90, 0)]}, (1, 1), True, True),
    # Released: the failed position adds a 0 and a 1: (1 + 1 + 0 + 1) / 4.
    "to the left": (
        BESIDE,
        {"dog": [at(90, 0)], "cat": [at(0, 0)]},
        (2 / 3, 0.75),
        False,
        False,
    ),
    "no dog to be beside": (BESIDE, {"cat": [at(90, 0)]}, (1 / 3, 1 / 3), False, False),
    "no cat": (BESIDE, {"dog": [at(0, 0)]}, (1 / 3, 1 / 3), False, False),
    "the right cat is looked at first": (
        BESIDE,
        {"dog": [at(0, 0)], "cat": [at(90, 0), at(-90, 0)]},
        (1 / 3, 1 / 3),
        True,
        False,
    ),
    # Released: a wrong colour leaves the position out: (1 + 1 + 0) / 3.
    "wrong colour, right place": (
        {"include": [DOG, {**CAT_RIGHT, "color": "red"}]},
        {"dog": [at(0, 0)], "cat": [at(90, 0, "blue")]},
        (0.5, 2 / 3),
        False,
        False,
    ),
    "an excluded class": (
        {"include": [DOG], "exclude": [CAT]},
        {"dog": DOGS[:1], "cat": DOGS[:1]},
        (1, 1),
        False,
        False,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_hand_worked_images(name):
    raw, objects, (score, released), correct, strict = TABLE[name]
    scene = scene_of(raw, "row 1")
    verdict = judge(scene, objects)
    assert verdict.score == pytest.approx(score)
    assert (verdict.correct, verdict.strict) == (correct, strict)
    faithful = judge(scene, objects, published=True)
    assert faithful.score == pytest.approx(released)
    assert faithful.correct == correct
    # The server never looks at `exclude` here; only GenEval's own verdict does.
    assert faithful.strict == (strict or name == "an excluded class")


def test_credits_are_named_in_order():
    scene = scene_of({"include": [DOG, {**CAT_RIGHT, "color": "red"}]}, "row 1")
    verdict = judge(scene, {"dog": [at(0, 0)], "cat": [at(90, 0, "red")]})
    assert verdict.credits == (
        ("count dog", 1.0),
        ("count cat", 1.0),
        ("colour cat", 1.0),
        ("position cat", 1.0),
    )


# GenEval's offsets, 20 x 20 boxes: shortened by 0.1 (20 + 20) = 4, over the whole length.
@pytest.mark.parametrize(
    ("offset", "seen"),
    [
        ((50, 0), {"right of"}),
        ((-50, 0), {"left of"}),
        ((0, 50), {"below"}),
        ((0, -50), {"above"}),
        ((50, 50), {"right of", "below"}),  # 46 / 70.7 = 0.65 each way
        ((50, 30), {"right of"}),  # 26 / 58.3 = 0.446 downwards
        ((4, 4), set()),  # nothing left over
        ((0, 0), set()),
    ],
)
def test_relations_are_read_from_where_boxes_lie(offset, seen):
    assert relations(at(*offset).box, at(0, 0).box) == seen


def test_keep_sorts_filters_and_limits():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 10, 9], [50, 0, 60, 10], [0, 0, 5, 5]], float)
    scores = np.array([0.5, 0.8, 0.4, 0.3])
    names = ["dog", "dog", "dog", "dog"]
    assert [one.score for one in keep(boxes, names, scores)["dog"]] == [0.8, 0.5, 0.4]
    assert [one.score for one in keep(boxes, names, scores, max_objects=2)["dog"]] == [0.8, 0.5]
    # Boxes counted a pixel larger: 10 x 10 in 11 x 10.
    assert overlap(boxes[0], boxes[1]) == pytest.approx(100 / 110)
    apart = keep(boxes, names, scores, max_overlap=0.9)["dog"]
    assert [one.score for one in apart] == [0.8, 0.4]
    assert "dog" not in keep(boxes, names, scores, threshold=0.9)


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"include": []}, "include"),
        ({"include": [{"class": "", "count": 1}]}, "class"),
        ({"include": [{"class": "dog", "count": 0}]}, "count"),
        ({"include": [{"class": "dog", "count": True}]}, "count"),
        ({"include": [{**DOG, "color": "gren"}]}, "did you mean 'green'"),
        ({"include": [DOG, {**CAT, "position": ["beside", 0]}]}, "position"),
        ({"include": [{**DOG, "position": ["left of", 0]}]}, "not before"),
        ({"include": [DOG, {**CAT, "position": ["left of"]}]}, "not before"),
        ({"include": [DOG], "exclude": [{"class": "cat"}]}, r"exclude\[0\]"),
    ],
)
def test_a_scene_that_cannot_be_judged_is_refused(raw, named):
    with pytest.raises(DataError, match=named) as error:
        scene_of(raw, "row 7")
    assert "row 7" in str(error.value)


coordinates = st.integers(0, 100).map(float)
objects = st.dictionaries(
    st.sampled_from(["dog", "cat", "mouse"]),
    st.lists(
        st.builds(at, coordinates, coordinates, st.sampled_from(COLOURS[:2])),
        min_size=1,
        max_size=4,
    ),
)


@st.composite
def scenes(draw):
    """Up to three clauses over three classes."""
    include = []
    for i in range(draw(st.integers(1, 3))):
        clause = {"class": ["dog", "cat", "mouse"][i], "count": draw(st.integers(1, 3))}
        if draw(st.booleans()):
            clause["color"] = draw(st.sampled_from(COLOURS[:2]))
        if i and draw(st.booleans()):
            clause["position"] = [draw(st.sampled_from(RELATIONS)), draw(st.integers(0, i - 1))]
        include.append(clause)
    return scene_of({"include": include}, "row")


@given(scene=scenes(), found=objects)
def test_the_three_metrics_agree(scene, found):
    verdict = judge(scene, found)
    assert 0 <= verdict.score <= 1
    assert verdict.strict == (verdict.score == 1)
    assert verdict.correct or not verdict.strict
    asked = sum(1 + (c.colour is not None) + (c.position is not None) for c in scene.include)
    assert len(verdict.credits) == asked
    released = judge(scene, found, published=True)
    assert (released.correct, released.strict) == (verdict.correct, verdict.strict)
    assert released.strict == (released.score == 1)


@given(scene=scenes(), found=objects, more=st.integers(1, 3))
def test_an_object_too_many_never_helps(scene, found, more):
    full = {
        c.name: (list(found.get(c.name, ())) + [at(0, 0)] * 3)[: c.count] for c in scene.include
    }
    crowded = {name: several + [at(5, 5)] * more for name, several in full.items()}
    assert judge(scene, crowded).score <= judge(scene, full).score


@given(a=st.tuples(coordinates, coordinates), b=st.tuples(coordinates, coordinates))
def test_relations_turn_round(a, b):
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    there = relations(at(*a).box, at(*b).box)
    assert relations(at(*b).box, at(*a).box) == {opposite[one] for one in there}


def test_only_colours_that_matter_are_asked_for():
    scene = scene_of({"include": [{"class": "dog", "count": 2, "color": "red"}, CAT]}, "row")
    assert to_be_coloured(scene, {"dog": DOGS[:1], "cat": DOGS[:1]}) == []
    found = {"dog": DOGS[:3], "cat": DOGS[:1]}
    asked = to_be_coloured(scene, found)
    assert asked == [("dog", 0), ("dog", 1)]
    coloured = with_colours(found, dict.fromkeys(asked, "red"))
    assert [one.colour for one in coloured["dog"]] == ["red", "red", None]
    assert [one.box for one in coloured["dog"]] == [one.box for one in DOGS[:3]]


def test_overall_is_the_mean_over_tasks():
    tags = ["counting", "counting", "colors"]
    found = macro_mean(tags, [True, False, True])
    assert found["mean"] == pytest.approx(0.75)
    # One of two right or wrong, resampled: 0, 1/2 or 1 of them; the other task is always right.
    assert (found["low"], found["high"], found["num"]) == (0.5, 1.0, 3)
    with pytest.raises(ValueError, match="no items"):
        macro_mean([], [])


@given(shares=st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=6))
def test_properties_of_macro_mean(shares):
    tags = [str(i) for i, (num, _) in enumerate(shares) for _ in range(num)]
    right = [k < share * num for num, share in shares for k in range(num)]
    found = macro_mean(tags, right, 200)
    assert 0 <= found["low"] <= found["mean"] + 1e-9
    assert found["mean"] - 1e-9 <= found["high"] <= 1
    # A task counts once, however many prompts it has.
    twice = [*tags, *(tag for tag in tags if tag == "0")]
    again = [*right, *(one for tag, one in zip(tags, right, strict=True) if tag == "0")]
    assert macro_mean(twice, again, 200)["mean"] == pytest.approx(found["mean"])
