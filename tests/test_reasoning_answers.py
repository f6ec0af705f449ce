"""Final answers: where they are, what they say, and when they match; nothing raises."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers_reasoning import BLUE, GREEN, QUESTIONS, RED, problem, sample_of
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrl.reasoning import symbolic
from vlrl.reasoning.arithmetic import value_of
from vlrl.reasoning.final_answer import final_answer, is_well_formed, thought_of
from vlrl.reasoning.quantities import Quantity, read_quantity, same_quantity
from vlrl.reasoning.routes import Segment, check_route, read_route, write_route
from vlrl.reasoning.truths import (
    ChoiceTruth,
    ExpressionTruth,
    ListTruth,
    NumberTruth,
    TextTruth,
    YesNoTruth,
)
from vlrl.tasks.visual_reasoning import VisualReasoning

TASK = VisualReasoning(VisualReasoning.Options(data={}))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<think>a</think><answer>5</answer>", "5"),
        ("<think><answer>4</answer></think>5", "5"),
        ("<answer>4</answer> wait <answer>5</answer>", "5"),
        ("The answer is 4. No, the answer is 5.", "5"),
        ("So it is \\boxed{3}, or rather \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("<answer>\\boxed{3}</answer>", "3"),
        ("<ANSWER> B </ANSWER><|im_end|>", "B"),
        ("<answer>B", "B"),
        ("Answer: AB", "AB"),
        ("prefilled thinking</think>8", "8"),
        ("7", "7"),
        ("<think>never closed <answer>7</answer>", None),
        ("<answer></answer>", None),
        ("", None),
    ],
)
def test_the_last_mark_outside_the_thinking_counts(text: str, found: str | None) -> None:
    assert final_answer(text) == found


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("<think>a</think>\n<answer>5</answer>", {"think_answer"}),
        ("a</think><answer>5</answer><|im_end|>", {"think_answer"}),
        ("<think>a</think><answer>5</answer> done", set()),
        ("<think>a</think> so <answer>5</answer>", set()),
        ("hm <think>a</think><answer>5</answer>", set()),
        ("<think>a</think><answer>5</answer><answer>6</answer>", set()),
        ("<answer>5</answer>", {"answer"}),
        ("It is \\boxed{5}", {"boxed"}),
        ("\\boxed{5} \\boxed{6}", set()),
        ("5", {"plain"}),
        ("", set()),
    ],
)
def test_well_formed_is_the_whole_answer(text: str, forms: set[str]) -> None:
    all_forms = ("think_answer", "answer", "boxed", "plain")
    assert {form for form in all_forms if is_well_formed(text, form)} == forms


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"), ("(b)", "B"), ("A.", "A"), ("option C", "C"), ("**B**", "B"),
        ("\\text{A}", "A"), ("A. red", "A"), ("B) blue", "B"), ("Dark Green.", "C"),
        ("I would say (B)", "B"), ("The correct answer is B", "B"),
        ("A. blue", None), ("AB", None), ("A or B", None), ("A, B", None), ("(A) or (B)", None),
        ("A. red or B. blue", None), ("A because of (B)", None), ("\u212a", None),
        ("D", None), ("a dog", None), ("", None),
    ],
)  # fmt: skip
def test_a_choice_is_one_letter_or_its_text(text: str, letter: str | None) -> None:
    assert ChoiceTruth("A", ("red", "blue", "dark green")).read(text) == letter


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-3", -3), ("−3", -3), ("0", 0), ("-0", 0), ("1,234.5", 1234.5),
        ("2,345,678", 2345678), ("1/2", 0.5), ("1 1/2", 1.5), ("½", 0.5), (".5", 0.5), ("5.", 5),
        ("\\frac{3}{4}", 0.75), ("$12", 12), ("x = 5", 5), ("15/3 = 5", 5), ("seven", 7),
        ("3 × 10^4", 30000), ("1e3", 1000), ("7 stations", 7), ("**7**", 7),
        ("-\\frac{1}{4}", -0.25),
        ("3 or 4", None), ("3-4", None), ("1,5", None), ("1/0", None), ("1e999", None),
        ("1.2.3", None), ("Line 2 has 7", None), ("many", None), ("", None),
    ],
)  # fmt: skip
def test_a_number_is_the_only_one(text: str, value: float | None) -> None:
    found = read_quantity(text)
    assert (found and found.value) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("true", "text", "same"),
    [
        (Quantity(0.5), "50%", True), (Quantity(50, "%"), "50%", True),
        (Quantity(50, "%"), "50", True), (Quantity(50), "50%", False),
        (Quantity(12, "cm"), "0.12 m", True), (Quantity(12, "cm"), "12", True),
        (Quantity(12, "cm"), "12 m", False), (Quantity(12, "cm"), "12 kg", False),
        (Quantity(90, "min"), "1.5 hours", True), (Quantity(7), "7 stations", True),
        (Quantity(45, "°"), "45^\\circ", True),
    ],
)  # fmt: skip
def test_units_are_converted_or_differ(true: Quantity, text: str, same: bool) -> None:
    given = read_quantity(text)
    assert given is not None
    assert same_quantity(true, given) == same


def test_the_larger_tolerance_counts_with_its_edge() -> None:
    truth = NumberTruth(Quantity(100.0), absolute=1.0, relative=0.05)
    assert [truth.matches(Quantity(x)) for x in (94.9, 95.0, 105.0, 105.1)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert not NumberTruth(Quantity(0.0), relative=0.5).matches(Quantity(0.01))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", True), ("**No.**", False), ("No, there is no such line", False),
        ("Yes, there is no change", True), ("It is false", False), ("true", True),
        ("Yes or no", None), ("yes and no", None), ("Yes. No.", None),
        ("yes, no", None), ("It is no yes", None), ("nothing", None),
    ],
)  # fmt: skip
def test_yes_or_no_but_not_both(text: str, said: bool | None) -> None:
    assert YesNoTruth(True).read(text) is said


def test_lists_compare_in_order_or_as_sets() -> None:
    either, ordered = ListTruth(("a", "b", "1,000")), ListTruth(("a", "b", "1,000"), ordered=True)
    given = either.read("B, 1000 and A")
    assert given == ("b", "1000", "a")
    assert either.matches(given)
    assert not ordered.matches(given)
    for text in ('["a", "b", 1000]', "1. A\n2. b\n3. 1,000", "a -> b -> 1000", "(a; b; 1,000)"):
        assert ordered.matches(ordered.read(text) or ()), text
    assert not either.matches(("a", "b"))
    assert not either.matches(("a", "a", "b"))
    assert not either.matches(("a", "b", "1000", "c"))
    assert not ListTruth(("line 2",)).matches(("2",))


@pytest.mark.parametrize(
    ("true", "text", "same"),
    [
        ("2 \\sqrt { 221 }", "\\sqrt{884}", True), ("\\frac{1}{3}", "1/3", True),
        ("3\\pi", "9.42477796", True), ("\\pi r^2", "π r^{2}", True), ("x^2+1", "x = 4", False),
        ("5", "x = 5", True), ("30^\\circ", "30", True), ("2^{10}", "1024", True),
        ("\\pi r^2", "2\\pi r", False), ("-2^2", "4", False),
        ("x^2-1", "(x-1)(x+1)", True), ("\\sin(x)^2+\\cos(x)^2", "1", True), ("x+1", "x+2", False),
        ("\\frac{1}{x}", "x^{-1}", True), ("a b", "b a", True),
    ],
)  # fmt: skip
def test_expressions_by_value_or_else_by_text(true: str, text: str, same: bool) -> None:
    truth = ExpressionTruth(true)
    read = truth.read(text)
    assert read is not None
    assert truth.matches(read) == same


def test_a_check_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any thread: math-verify's own alarm works on the main one alone."""
    monkeypatch.setattr(symbolic, "TIMEOUT_S", 0.5)
    symbolic.same_expression.cache_clear()
    with ThreadPoolExecutor(1) as pool:
        same = pool.submit(symbolic.same_expression, "2x", "x+x")
        assert same.result(60)
        start = time.monotonic()
        assert not pool.submit(symbolic.same_expression, "9^{9^{9^{9}}}+x", "x").result(60)
        assert time.monotonic() - start < 4.0, "its own limit is 5 s and more"
        assert pool.submit(symbolic.same_expression, "3x", "x+x+x").result(60), "started again"


def test_arithmetic_ends_on_anything() -> None:
    for text in (
        "9**9**9**9",
        "(" * 10_000,
        "sqrt" * 5000,
        "2^-",
        "1/(1-1)",
        "(-8)^(1/3)",
        "^" * 99,
    ):
        assert value_of(text) is None, text
    assert value_of("1+2*3-4/2^2") == 6


def test_a_choice_without_known_options_is_still_one_letter() -> None:
    truth = ChoiceTruth("A")
    assert [truth.read(text) for text in ("A. red", "K", "A. red or B. blue", "A) 5, (B) 6")] == [
        "A", "K", None, None,
    ]  # fmt: skip


def test_text_is_compared_without_case_and_punctuation() -> None:
    truth = TextTruth("Parkgate Station")
    assert truth.matches(truth.read('  "parkgate  station."') or "")
    assert not truth.matches(truth.read("Parkgate") or "")


@pytest.mark.parametrize(
    ("route", "starts", "ends", "rides", "joins"),
    [
        ([RED, BLUE], True, True, (True, True), (True,)),
        ([Segment("red", "alder station", "Castle (Transfer Station)"), BLUE], True, True,
         (True, True), (True,)),
        ([RED], True, False, (True,), ()),
        ([BLUE, RED], False, False, (True, True), (False,)),
        ([Segment("Blue Line", "Alder", "Fern")], True, True, (False,), ()),
        ([Segment("Grey Line", "Alder", "Fern")], True, True, (False,), ()),
        ([RED, Segment("Red Line", "Castle", "Castle"), BLUE], True, True, (True, False, True),
         (True, True)),
        ([], False, False, (), ()),
    ],
)  # fmt: skip
def test_routes_are_checked_on_their_lines(
    route: list[Segment], starts: bool, ends: bool, rides: tuple[bool, ...], joins: tuple[bool, ...]
) -> None:
    check = check_route(problem(), read_route(write_route(route)))
    assert (check.starts, check.ends, check.rides, check.joins) == (starts, ends, rides, joins)
    assert check.is_valid == bool(route and starts and ends and all(rides + joins))


def test_routes_are_read_in_both_spellings_and_whole() -> None:
    ours = "Line: Red Line\nFrom: Alder\nTo: Castle\n--\n**Route Name:** Blue Line\n" \
        "**Departure Stop:** Castle\nArrival Stop: Fern\nNumber of Via Stops: 1"  # fmt: skip
    assert read_route(ours) == (RED, BLUE)
    assert read_route("Route Name: Red Line\nDeparture Stop: Alder") == ()
    assert read_route("Departure Stop: Alder\nArrival Stop: Fern") == ()
    assert read_route(write_route([GREEN] * 51)) == ()


def test_an_answer_is_right_where_it_matches_and_boxes_are_those_before_it() -> None:
    (choice, _), (boxes, _) = QUESTIONS[1], QUESTIONS[3]
    text = "<think><box>[0,0,20,20]</box></think><answer>B</answer>"
    answer = TASK.parse(choice, text)
    assert answer is not None
    assert (answer.correct, answer.well_formed, len(answer.boxes)) == (True, True, 1)
    assert answer.boxes[0].xyxy == (0, 0, 20, 20)
    assert thought_of(text).endswith("</think>")
    right, two = TASK.parse(boxes, "[1, 0, 20, 20]"), TASK.parse(boxes, "[1,0,20,20] [2,2,9,9]")
    assert right is not None
    assert two is not None
    assert (right.correct, two.correct) == (True, False)
    hedged = TASK.parse(choice, "<think>a</think><answer>A or B</answer>")
    assert hedged is not None
    assert (hedged.value, hedged.correct, hedged.well_formed) == (None, False, True)


PIECES = (
    "<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "7", "-", "/", "0", "(A)",
    "yes", "[1,2,3,4]", "Route Name: x\n", "\\frac", "{", "%", ",", "and", "\ud800", "٣",
    "\x00", "e9999", "sqrt", "\u212a", "\u017f",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=40)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_no_text_makes_reading_raise(text: str) -> None:
    more = (ListTruth(("1",)), ExpressionTruth("1"), TextTruth("1"), YesNoTruth(True))
    for sample in (*(one for one, _ in QUESTIONS), *map(sample_of, more)):
        TASK.parse(sample, text)
    assert TASK.parse(QUESTIONS[0][0], None) is None
