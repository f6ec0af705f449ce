"""Box and point rewards: the published reference values, the edge cases, the properties."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrl.errors import DataError, RewardError
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiAnswer, GuiGrounding, GuiTarget
from vlrl.types import Finish, ImagePart, Message, Rollout, Sample, Score, TextPart

CONFIGS = Path(__file__).parent.parent / "configs" / "rewards"
SCREEN = Frame(1920, 1080)
TRUE = (100.0, 100.0, 200.0, 140.0)
BOX_REWARDS = ("gaussian_point", "gaussian_coverage", "box_hit", "box_iou", "edge_harmonic")


def sample(box=TRUE, frame=SCREEN) -> Sample:
    """A problem whose image has the frame's size in pixels."""
    part = ImagePart("a.png", int(frame.width), int(frame.height))
    prompt = (Message("user", (part, TextPart("Click: Inbox"))),)
    return Sample("s", "gui_grounding", prompt, GuiTarget(Box(*box, frame)))


def rollout(parsed, problem=None, index=0, output="") -> Rollout:
    """One rollout with this reading."""
    return Rollout(problem or sample(), 0, index, output, Finish.STOP, 1, 0, parsed=parsed)


def boxed(box, frame=SCREEN, well_formed=True) -> GuiAnswer:
    """The reading of an answer with one box."""
    whole = Box(*box, frame)
    return GuiAnswer(whole, (whole.centre,), well_formed)


def value_of(name, box, true=TRUE, frame=SCREEN, **options) -> float:
    """The value of one reward for one box."""
    one = rollout(boxed(box, frame), sample(true, frame))
    return build_reward({"use": name, **options})([one])[0].value


def gui_task(profile="gui_g2") -> GuiGrounding:
    """A task that only reads answers, at the image's own size."""
    source = {"t": {"path": "unused.jsonl"}}
    return GuiGrounding(GuiGrounding.Options(data=source, profile=profile))


# What the released GUI-G2 code returns: (box, point, coverage).
GOLDEN = [
    ((100, 100, 200, 140), 1.0, 1.0),
    ((110, 100, 210, 140), 0.980, 0.995),
    ((125, 100, 225, 140), 0.882, 0.969),
    ((150, 100, 250, 140), 0.607, 0.882),
    ((200, 100, 300, 140), 0.135, 0.607),
    ((100, 110, 200, 150), 0.882, 0.969),
    ((100, 120, 200, 160), 0.607, 0.882),
    ((90, 90, 210, 150), 1.0, 0.953),
    ((50, 80, 250, 160), 1.0, 0.8),
    ((125, 110, 175, 130), 1.0, 0.8),
    ((140, 116, 160, 124), 1.0, 0.385),
    ((145, 118, 155, 122), 1.0, 0.198),
    ((149, 119, 151, 121), 1.0, 0.063),
    ((0, 0, 1920, 1080), 0.0, 0.063),
]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("box", "point", "coverage"), GOLDEN)
def test_gui_g2_reference_values(box, point, coverage, published):
    tolerance = 1e-9 if published else 5.1e-4
    assert value_of("gaussian_point", box, published=published) == pytest.approx(
        point, abs=tolerance
    )
    # The released coverage of a full screen is below 0.0635 and above 0.0625.
    assert value_of("gaussian_coverage", box, published=published) == pytest.approx(
        coverage, abs=tolerance
    )


# (what, box, {reward: sane value}); None = any value of the reward's range.
EDGE_CASES = [
    ("1 empty at the centre", (150, 120, 150, 120), dict.fromkeys(BOX_REWARDS, 0.0)),
    ("4 swapped corners", (200, 140, 100, 100), dict.fromkeys(BOX_REWARDS, 0.0)),
    ("5 nan", (math.nan, 100, 200, 140), dict.fromkeys(BOX_REWARDS, 0.0)),
    ("5 inf", (100, 100, math.inf, 140), dict.fromkeys(BOX_REWARDS, 0.0)),
    ("6 near the float limit", (-1e308, -1e308, 1e308, 1e308), {"edge_harmonic": 0.0}),
    ("7 outside the image", (5000, 5000, 9000, 9000), dict.fromkeys(BOX_REWARDS, 0.0)),
    ("8 at the released pole", (-2661, 100, 200, 140), {"edge_harmonic": 0.0}),
    ("8 far left edge", (-1e9, 100, 200, 140), {"edge_harmonic": 0.0}),
    ("20 one pixel, identical", (100, 100, 101, 101), None),
    ("22 click on the far corner", (150, 120, 250, 160), {"box_hit": 1.0}),
    ("22 half a pixel beyond", (150.5, 120, 250.5, 160), {"box_hit": 1.0}),
    ("22 one pixel beyond", (151, 120, 251, 160), {"box_hit": 0.0}),
]


@pytest.mark.parametrize(("what", "box", "sane"), EDGE_CASES, ids=[c[0] for c in EDGE_CASES])
def test_edge_cases_of_boxes(what, box, sane):
    if what.startswith("20"):
        for name in BOX_REWARDS:
            assert value_of(name, box, true=box) == 1.0
        return
    if what == "22 half a pixel beyond":  # its centre is (200.5, 140): off by half a pixel
        assert value_of("box_hit", box) == 0.0
        return
    for name in BOX_REWARDS:
        value = value_of(name, box)
        assert 0.0 <= value <= 1.0
        if name in sane:
            assert value == sane[name]


@pytest.mark.parametrize("true", [(150, 100, 150, 140), (150, 120, 150, 120), (200, 140, 100, 100)])
def test_edge_cases_2_3_18_bad_true_box(true):
    with pytest.raises(ValueError, match="empty, inverted"):
        sample(true)

    class Target:
        box = Box(*true, SCREEN)

    bad = Sample("row7", "gui_grounding", (), Target())
    for name in BOX_REWARDS:
        with pytest.raises(RewardError, match="row7"):
            build_reward({"use": name})([rollout(boxed(TRUE), bad)])


# (what, answer, readable, hit, format) for GUI-G2's profile; the image is not resized.
ANSWERS = [
    ("5 nan", "[nan,100,200,140]", False, 0, 0),
    ("5 inf", "[100,100,inf,140]", False, 0, 0),
    ("5 exponent", "[1e400,100,200,140]", False, 0, 0),
    ("6 400 digits", "[" + "9" * 400 + ",100,200,140]", False, 0, 0),
    ("9 prose around", "The box is [100,100,200,140].", True, 1, 0),
    ("10 wrong box first", "[0,0,9,9] [100,100,200,140]", True, 0, 0),
    ("10 right box first", "[100,100,200,140] [0,0,9,9]", True, 1, 0),
    ("11 nested", "[[100,100,200,140]]", True, 1, 0),
    ("11 five numbers", "[100,100,200,140,5]", False, 0, 0),
    ("12 point only", "[150,120]", True, 1, 0),
    ("13 percent", "[5%,9%,10%,13%]", False, 0, 0),
    ("13 plus", "[+100,100,200,140]", False, 0, 0),
    ("13 bare point", "[100.,100.,200.,140.]", False, 0, 0),
    ("13 exponent", "[1e2,1e2,2e2,140]", False, 0, 0),
    ("13 underscore", "[1_00,100,200,140]", False, 0, 0),
    ("13 full-width comma", "[100，100，200，140]", False, 0, 0),
    ("13 semicolon", "[100;100;200;140]", False, 0, 0),
    ("13 tuple", "(100,100,200,140)", True, 1, 0),
    ("15 Arabic-Indic digits", "[١٠٠,١٠٠,٢٠٠,١٤٠]", False, 0, 0),
    ("15 full-width digits", "[１００,１００,２００,１４０]", False, 0, 0),
    ("15 superscripts", "[¹⁰⁰,100,200,140]", False, 0, 0),
    ("16 leading newline", "\n[100,100,200,140]", True, 1, 1),
    ("16 trailing newline", "[100,100,200,140]\n", True, 1, 1),
    ("16 end token", "[100,100,200,140]<|im_end|>", True, 1, 1),
    ("17 assistant in the text", "[100,100,200,140]\nassistant\n", True, 1, 0),
    ("21 many spaces", "[1," + " " * 8000, False, 0, 0),
    ("empty", "", False, 0, 0),
]


@pytest.mark.parametrize(
    ("what", "answer", "readable", "hit", "form"), ANSWERS, ids=[c[0] for c in ANSWERS]
)
def test_edge_cases_of_answers(what, answer, readable, hit, form):
    task = gui_task()
    frame = Frame(1932, 1092)  # a multiple of 28: read and true pixels are the same
    problem = sample(TRUE, frame)
    one = rollout(task.parse(problem, answer), problem, output=answer)
    assert (one.parsed is not None) == readable
    assert task.metrics([one])["hit"] == [hit]
    assert build_reward({"use": "format"})([one])[0].value == form
    for name in BOX_REWARDS:
        assert 0.0 <= build_reward({"use": name})([one])[0].value <= 1.0


def test_edge_case_14_unit_frame():
    unit = Frame(1, 1)
    small = (0.05, 0.09, 0.1, 0.13)
    for published in (False, True):
        value = value_of("gaussian_coverage", small, small, unit, published=published)
        assert value == 1.0
    assert value_of("box_iou", small, small, unit) == 1.0


@pytest.mark.parametrize("bad", [["100", "100", "200", "140"], [1, 2, 3, 4, 5], None])
def test_edge_case_19_true_box_of_a_wrong_type(tmp_path, bad):
    import json

    row = {"id": "a", "image": "a.png", "image_size": [1920, 1080], "instruction": "x", "bbox": bad}
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row))
    source = {"train": {"path": str(path), "check_images": False}}
    task = GuiGrounding(GuiGrounding.Options(data=source))
    with pytest.raises(DataError, match=r"train\.jsonl, row 1: field 'bbox'"):
        task.samples("train")


def test_edge_case_24_wrong_frame_does_not_score_by_accident():
    # A correct answer in 0..1000, read as pixels: near 0 except for the edge term, which hides it.
    wrong = (100 / 1.92, 100 / 1.08, 200 / 1.92, 140 / 1.08)
    assert value_of("gaussian_coverage", wrong) < 0.6
    assert value_of("box_iou", wrong) < 0.5
    right = Box(*wrong, Frame(1000, 1000))
    one = rollout(GuiAnswer(right, (right.centre,), True))
    for name in BOX_REWARDS:
        assert build_reward({"use": name})([one])[0].value == pytest.approx(1.0)


def test_edge_case_25_every_rollout_meets_its_own_target():
    first, second = sample(TRUE), sample((500, 500, 600, 540))
    mixed = [
        rollout(boxed(TRUE), first),
        rollout(boxed(TRUE), second),
        rollout(boxed((500, 500, 600, 540)), second),
    ]
    values = [score.value for score in build_reward({"use": "box_hit"})(mixed)]
    assert values == [1.0, 0.0, 1.0]


def test_published_values_of_gui_g1():
    # The released code's values, without its weights 0.25 and 0.125.
    assert value_of("box_iou", (100, 100, 101, 101), (100, 100, 101, 101), published=True) == 0.0
    assert value_of("box_iou", TRUE, published=True) == 1.0
    assert value_of("edge_harmonic", (-2661, 100, 200, 140), published=True) == 0.0
    assert value_of("edge_harmonic", (5000, 5000, 9000, 9000), published=True) == 0.0
    assert value_of("edge_harmonic", (200, 140, 100, 100), published=True) == pytest.approx(
        0.119 / 0.125, abs=5e-3
    )
    assert value_of("gaussian_coverage", (200, 140, 100, 100), published=True) == 1.0
    assert value_of("gaussian_point", (150, 120, 150, 120), published=True) == 1.0
    assert value_of("box_hit", (150, 120, 150, 120), published=True) == 1.0


def test_point_rewards_by_hand():
    def at(x, y, name, **options):
        one = rollout(GuiAnswer(None, (Point(x, y, SCREEN),), True))
        return build_reward({"use": name, **options})([one])[0].value

    assert at(200, 140, "point_hit") == 1.0
    assert at(200.5, 140, "point_hit") == 0.0
    assert at(150, 120, "point_distance") == 2.0
    # The farthest corner is the bottom right one: distance 1 of d_max, nothing left.
    assert at(1920, 1080, "point_distance") == pytest.approx(0.0)
    assert at(-1e9, 0, "point_distance") == 0.0
    assert at(150 + 1920 * 1.0001, 120, "point_distance", published=True) == 0.0


@pytest.mark.parametrize(
    ("points", "value"),
    [
        ([(150, 120)], 1.0),
        ([(0, 0), (150, 120)], 1 / 2),
        ([(150, 120), (0, 0)], 1 / math.sqrt(2)),
        ([(0, 0), (1, 9), (2, 2)], -1 / 3),
        ([], -1.0),
    ],
)
def test_multi_point_by_hand(points, value):
    places = tuple(Point(x, y, SCREEN) for x, y in points)
    parsed = GuiAnswer(None, places, True) if places else None
    assert build_reward({"use": "multi_point"})([rollout(parsed)])[0].value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("(150, 120)", 1), ("click(150.5,120)", 1), ("(150, 120), (150, 121)", 0), ("(0,0)", 0)],
)
def test_gta1_pays_one_click_alone(text, value):
    """As in the release, more than one point scores 0."""
    node = yaml.safe_load((CONFIGS / "gta1.yaml").read_text())["reward"]
    task, problem = gui_task("gta1"), sample()
    one = rollout(task.parse(problem, text), problem)
    assert build_reward(node)([one])[0].value == value
    assert build_reward(node)([rollout(None)])[0].value == 0


def test_points_on_a_line():
    def spread(*points):
        places = tuple(Point(x, y, SCREEN) for x, y in points)
        return build_reward({"use": "points_spread"})([rollout(GuiAnswer(None, places, True))])[0]

    assert spread((1, 1), (2, 2)).value == 1.0
    assert spread((1, 1), (500, 2), (9, 700)).value == 1.0
    assert spread((1, 1), (9, 700), (200, 200), (3, 3)).value == 0.0


edges = st.floats(0, 1, allow_nan=False, allow_subnormal=False)


@st.composite
def unit_boxes(draw) -> tuple[float, float, float, float]:
    """A box inside the unit square, at least 1e-3 wide and high."""
    x, y = draw(st.floats(0, 0.99)), draw(st.floats(0, 0.99))
    w, h = draw(st.floats(1e-3, 1)), draw(st.floats(1e-3, 1))
    return (x, y, min(x + w, 1.0), min(y + h, 1.0))


def in_frame(box, frame):
    """The unit-square box in another frame."""
    return Box(*box, Frame(1, 1)).to(frame).xyxy


@settings(max_examples=60, deadline=None)
@given(unit_boxes(), unit_boxes())
def test_box_rewards_hold_in_every_frame_and_below_the_true_box(a, b):
    for name in BOX_REWARDS:
        in_pixels = value_of(name, in_frame(a, SCREEN), in_frame(b, SCREEN))
        assert 0.0 <= in_pixels <= 1.0
        assert in_pixels <= value_of(name, in_frame(b, SCREEN), in_frame(b, SCREEN)) + 1e-12
        if name == "box_hit":  # rounding decides on the very edge
            continue
        for frame in (Frame(1, 1), Frame(1000, 1000)):
            here = value_of(name, in_frame(a, frame), in_frame(b, frame), frame)
            assert here == pytest.approx(in_pixels, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(unit_boxes(), unit_boxes(), st.floats(1e-2, 1e3))
def test_coverage_is_symmetric_and_free_of_scale_and_shift(a, b, scale):
    forward = value_of("gaussian_coverage", a, b, Frame(1, 1))
    assert value_of("gaussian_coverage", b, a, Frame(1, 1)) == pytest.approx(forward, abs=1e-12)
    wide = Frame(4 * scale, 4 * scale)
    moved = [tuple(scale * (edge + 0.5) for edge in box) for box in (a, b)]
    assert value_of("gaussian_coverage", *moved, wide) == pytest.approx(forward, abs=1e-9)
    if forward == 1.0:
        assert a == pytest.approx(b, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(unit_boxes(), unit_boxes()), min_size=1, max_size=12), st.randoms())
def test_vectorised_equals_row_by_row_in_any_order(rows, random):
    unit = Frame(1, 1)
    rollouts = [rollout(boxed(a, unit), sample(b, unit), i) for i, (a, b) in enumerate(rows)]
    order = list(range(len(rollouts)))
    random.shuffle(order)
    for name in BOX_REWARDS:
        reward = build_reward({"use": name})
        together = [score.value for score in reward(rollouts)]
        alone = [reward([one])[0].value for one in rollouts]
        shuffled = [score.value for score in reward([rollouts[i] for i in order])]
        assert together == alone
        assert shuffled == [together[i] for i in order]


any_float = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(st.tuples(any_float, any_float, any_float, any_float), st.booleans())
def test_any_box_gives_a_value_in_the_range(box, published):
    for name in BOX_REWARDS:
        value = value_of(name, box, published=published)
        assert 0.0 <= value <= 1.0


def test_no_answer_scores_low_and_no_true_box_does_not_apply():
    class NoBox:
        box = None

    for name in BOX_REWARDS:
        reward = build_reward({"use": name})
        assert reward([rollout(None)]) == [Score(0.0, {name: 0.0})]
        nothing = Sample("s", "t", (), NoBox())
        assert reward([rollout(boxed(TRUE), nothing)]) == [Score(None)]
        assert reward([]) == []
    assert np.isfinite(value_of("gaussian_point", (0, 0, 1, 1)))
