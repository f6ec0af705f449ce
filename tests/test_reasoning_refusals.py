"""Answers that deny, hedge or take back what they say are refused; plain ones beside them are not.

Each table has the forms that a lenient reader would pay, and those next to them that are right.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from helpers_reasoning import is_right

from vlrl.reasoning.arithmetic import value_of
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS
from vlrl.reasoning.quantities import Quantity, read_quantity
from vlrl.reasoning.truths import (
    ChoiceTruth,
    ExpressionTruth,
    ListTruth,
    NumberTruth,
    YesNoTruth,
)


@pytest.mark.parametrize(
    "text",
    [
        "3 or four", "zero or 3", "three or four", "3, no 4", "3 and a half", "3 (4)", "3 3",
        "not 3", "It isn't 3", "The answer is not 3", "never 3", "3 is wrong", "3, not four",
        "less than 3", "at least 3", "more than 3", "up to 3", "3 or more", "3+", "±3", "\\neq 3",
        "x ≥ 3", "almost 3", "half of 3", "twice 3", "3 times x",
        "3 pi", "3\\pi", "3x", "3 x", "3ab", "x+3", "3+x", "3!", "3^2", "3 squared", "3 over x",
        "3 million", "3 thousand", "3 hundred", "3 dozen", "3k", "3K", "3M", "3万",
        "minus 3", "negative 3", "-3", "−3", "–3", "—3", "‑3", "‐3", "﹣3", "－3", "\u20123",
        "How many stops on line 3?", "How many stops on line 3", "3?", "Line 3", "on page 3",
        "x = 3 = 4", "4 = 3", "x = 4, y = 3", "x = 3, y = 4", "x = 4 and y = 3", "x = 4 y = 3",
        "3:4", "1,3",
    ],
)  # fmt: skip
def test_a_number_that_is_changed_or_denied_is_another_one_or_none(text: str) -> None:
    assert not is_right(NumberTruth(Quantity(3.0)), text)


@pytest.mark.parametrize(
    "text",
    [
        "3", "3.", "3.0", "+3", "$3$", "**3**", "`3`", '"3"', "(3)", "[3]", "３", "three", "Three.",
        "The answer is 3.", "The answer is **3**", "It's 3", "Answer: 3", "Total: 3", "x = 3",
        "x = 1 + 2 = 3", "9/3 = 3", "AB = 3", "x is 3", "about 3", "≈ 3", "So there are 3",
        "The number of stops is 3.", "There are exactly three stops.", "I count 3", "= 3",
        "a total of 3", "plus 3", "3 stops", "3 stops!", "3 intermediate stops", "3 in total",
        "3 (stops)", "3 times", "3rd", "7 - 4 = 3", "3 stops between Alder and Fern",
        "3 stations on the Red Line", "3 站", "3站", "\\text{3}", "$3$ stops", "3 V", "3 cm", "€3",
        "You pass 3 stations", "The lines meet 3 times", "It takes 3 minutes", "3, as shown",
        "*3*", "It is *3*.", "x = 1 cm * 3 cm = 3 cm^2",
    ],
)  # fmt: skip
def test_a_number_may_be_introduced_and_counted(text: str) -> None:
    assert is_right(NumberTruth(Quantity(3.0)), text)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2½", 2.5, ""), ("-2½", -2.5, ""), ("½", 0.5, ""), ("10⁴", 1e4, ""), ("3 × 10⁴", 3e4, ""),
        ("10⁻³", 1e-3, ""), ("3 x 10^4", 3e4, ""), ("2\\frac{1}{2}", 2.5, ""), ("2²", 4, ""),
        ("2 \\frac{1}{2} cm", 2.5, "cm"), ("1 3/2", None, ""), ("2\\frac{3}{2}", None, ""),
        ("minus 3", -3, ""), ("negative two", -2, ""), ("3 million people", 3e6, "people"),
        ("2.5 thousand", 2500, ""), ("3\\pi", 9.42477796, ""), ("3 pi cm", 9.42477796, "cm"),
        ("twenty-one", 21, ""), ("3{,}000", 3000, ""), ("-€3", -3, "€"), ("£3.50", 3.5, "£"),
        ("5 centimeter", 5, "cm"), ("5 centimetres", 5, "cm"), ("5 kilometer", 5, "km"),
        ("50 per cent", 50, "%"), ("50 percent", 50, "%"), ("5 square metres", 5, "m^2"),
        ("5 m²", 5, "m^2"), ("5 sq. m", 5, "m^2"), ("5 m2", 5, "m^2"), ("5 km per hour", 5, "km/h"),
        ("3~\\text{cm}^{2}", 3, "cm^2"), ("20 degrees Celsius", 20, "°C"), ("20 °C", 20, "°C"),
        ("0.5 = 50%", 50, "%"), ("1/3 ≈ 0.333", 0.333, ""), ("0.5 km = 500 m", 500, "m"),
        ("1 000", 1000, ""),
    ],
)  # fmt: skip
def test_fractions_powers_signs_and_units_are_read_as_they_stand(
    text: str, value: float | None, unit: str
) -> None:
    found = read_quantity(text)
    if value is None:
        assert found is None
    else:
        assert found is not None
        assert (found.value, found.unit) == (pytest.approx(value), unit)


@pytest.mark.parametrize(
    ("unit", "text", "right"),
    [
        ("K", "300 K", True), ("", "300 K", False), ("V", "300V", True), ("K", "300", True),
        ("m", "300 stops", False), ("cm", "300 in total", True), ("stops", "300 stops", True),
        ("m", "300 metres long", True), ("m", "30000 centimeter", True), ("m^2", "300 m", False),
        ("km", "300 km per hour", False), ("%", "300 per cent", True),
        ("cm", "300, as shown", True), ("cm", "300 (measured)", True), ("cm", "300 (m)", False),
    ],
)  # fmt: skip
def test_a_single_letter_is_a_unit_where_it_is_known_or_the_true_one(
    unit: str, text: str, right: bool
) -> None:
    assert is_right(NumberTruth(Quantity(300.0, unit)), text) == right


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not true", False), ("It is not true", False), ("isn't true", False), ("not false", True),
        ("It isn't false.", True), ("No, it is not true", False), ("Yes, it is true", True),
        ("Not yes", None), ("neither yes", None), ("neither yes nor no", None), ("not no", None),
        ("It cannot be true", None), ("I do not think it is true", None), ("never true", None),
        ("yes no", None), ("Yes (no)", None), ("yes, or no", None), ("yes & no", None),
        ("yes/no", None), ("yes or not", None), ("true, false", None), ("Yes. Wait, no.", None),
        ("Yes, wait, it does not", None), ("Yes. Actually not.", None), ("Yes, but no", None),
        ("No doubt, yes", None), ("Yes, no doubt", True), ("Yes, no line is needed", True),
        ("No; the line ends there.", False), ("No it does not", False), ("Yes it does", True),
        ("No change is needed", None), ("There is no direct line", None),
        ("Yes?", None), ("Is it true that it stops?", None), ("Is it true that it stops", None),
        ("Tell whether it is true", None), ("So yes", True), ("Actually, yes", True),
        ("The answer is no.", False), ("\\text{No}", False), ("I checked the map.\nNo.", False),
        ("No, it is false", False), ("No. The other one is true.", None), ("Yes!", True),
    ],
)  # fmt: skip
def test_yes_or_no_is_neither_denied_nor_both(text: str, said: bool | None) -> None:
    assert YesNoTruth(True).read(text) is said


@pytest.mark.parametrize(
    ("items", "options", "text", "right"),
    [
        (("5th Avenue", "42nd Street"), {}, "5th Street, 42nd Road", False),
        (("5th Avenue", "42nd Street"), {}, "42nd street and 5th avenue", True),
        (("12 Main Street",), {}, "12", False),
        (("12",), {}, "12 Main Street", False),
        (("3", "4"), {}, "3 stops, 4 stops", True),
        (("7 stations",), {}, "7", True),
        (("7 stations",), {}, "7 stops", False),
        (("12:30",), {}, "12", False),
        (("3",), {}, "3x", False),
        (("100", "200", "300"), {}, "100,200,300", True),
        (("100", "200", "300"), {}, "100, 200, 300", True),
        (("100200300",), {}, "100,200,300", True),
        (("1,000", "2"), {}, "2, 1,000", True),
        (("100", "200"), {}, "100,200,300", False),
        (("Elephant and Castle", "Bank"), {}, "Elephant and Castle, Bank", True),
        (("Elephant and Castle", "Bank"), {}, "Bank and elephant  and castle", True),
        (("Washington, DC", "Boston"), {}, "Boston; Washington, DC", True),
        (("Elephant", "Castle", "Bank"), {}, "Elephant and Castle, Bank", True),
        (("Elephant and Castle", "Bank"), {}, "Elephant, Castle, Bank", False),
        (("1.0", "1.2"), {"absolute": 0.15}, "1.1, 0.9", True),
        (("1.0", "1.2"), {"absolute": 0.15}, "0.9, 1.1", True),
        (("1.0", "1.2"), {"absolute": 0.15}, "1.0, 1.0", False),
        (("1.0", "1.2"), {"absolute": 0.15, "ordered": True}, "1.3, 0.9", False),
        ((".5",), {}, "5", False),
        ((".5",), {}, "0.5", True),
        (("104",), {}, "10⁴", False),
        (("10000",), {}, "10⁴", True),
        (("3",), {}, "‑3", False),
        (("red", "blue"), {}, "red or blue", False),
    ],
)
def test_items_of_lists_are_whole(
    items: tuple[str, ...], options: dict[str, Any], text: str, right: bool
) -> None:
    assert is_right(ListTruth(items, **options), text) == right


def test_two_hundred_items_are_paired_at_once() -> None:
    numbers = tuple(str(one) for one in range(200))
    start = time.process_time()
    assert is_right(ListTruth(numbers, absolute=1.0), ", ".join(reversed(numbers)))
    assert not is_right(ListTruth(numbers, absolute=1e9), ", ".join([*numbers[1:], "x"]))
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("true", "text", "right"),
    [
        ("-2", "\\sqrt[3]{-8}", True), ("2", "\\sqrt[3]{-8}", False), ("2", "\\sqrt[3]{8}", True),
        ("2", "\\sqrt[4]{-16}", False), ("2", "\\sqrt{-4}", False), ("2", "\\sqrt[4]{16}", True),
        ("-1/2", "\\sqrt[-3]{-8}", True),
        ("23", "2 3", False), ("2 3", "2 3", True), ("5/3", "1 2/3", True), ("4", "1 2/3", False),
        ("2.5", "2\\frac{1}{2}", True), ("1", "2\\frac{1}{2}", False), ("2.5", "2½", True),
        ("1", "2 \\cdot \\frac{1}{2}", True), ("-2.5", "-2\\frac{1}{2}", True),
        ("3", "2\\frac{3}{2}", False), ("7/2", "2\\frac{3}{2}", False), ("10^4", "10⁴", True),
        ("104", "10⁴", False), ("1000", "1 000", True), ("0.5", "\\frac12", True),
        ("2018", "2024-05-01", False), ("2024-05-01", "2018", False),
        ("2024-05-01", "2024-05-01", True), ("7", "007", False),
        ("x+1", "x+2=x+1", False), ("x+1", "x+1=x+2", False), ("x+1", "y = x+1", True),
        ("4", "x=3=4", False), ("4", "x=4", True), ("4", "x=2*2=4", True), ("4", "3=4", False),
        ("x+1", "x+1=", False), ("x^2+y^2=1", "y^2+x^2=1", True), ("x^2+y^2=1", "1", False),
        ("y=2x+1", "y=1+2x", True), ("\\sqrt{2}", "\\sqrt{2} ≈ 1.414", True),
        ("\\sqrt{2}", "1.414", False), ("x+1", "x+1 or x+2", False), ("x", "not x", False),
        ("(1,2)", "(1, 2)", True), ("(1,2)", "(2, 1)", False),
    ],
)  # fmt: skip
def test_expressions_say_one_thing(true: str, text: str, right: bool) -> None:
    assert is_right(ExpressionTruth(true), text) == right


def test_mixed_numbers_keep_their_place_in_a_sum() -> None:
    assert value_of("3 \\times 2\\frac{1}{2}") == 7.5
    assert value_of("1 2/3 + 1") == pytest.approx(8 / 3)
    assert value_of("2^3\\frac{1}{2}") == 4


@pytest.mark.parametrize(
    ("text", "known", "unknown"),
    [
        ("not (A)", None, None), ("Not option A", None, None), ("(A) is wrong, blue", None, None),
        ("option A is incorrect", None, None), ("It isn't (A)", None, None),
        ("All but (A)", None, None), ("neither (A)", None, None), ("(A) or not", None, None),
        ("It is (B), not (A)", None, None), ("The answer is not A", None, None),
        ("A) B", None, None), ("A.B.C.D", None, None), ("A: B, C, D", None, None),
        ("a, b", None, None), ("A and B", None, None), ("Option A or B", None, None),
        ("A - B", None, None), ("A. No wait, B", None, None), ("(A) No wait, (B)", None, None),
        ("A?", None, None), ("(A)?", None, None), ("A. is not it", None, None),
        ("A" + " " * MAX_ANSWER_CHARS, None, None), ("A. " + "x" * MAX_ANSWER_CHARS, None, None),
        ("A,", "A", "A"), ("A!", "A", "A"), ("“A”", "A", "A"), ("‘B’.", "B", "B"),
        ("«C»", "C", "C"),
        ("A;", "A", "A"), ("B, blue", "B", "B"), ("B - blue", "B", "B"), ("B: blue", "B", "B"),
        ("**B**, blue", "B", "B"), ("Option B is correct", "B", "B"), ("(B) is right", "B", "B"),
        ("(B) because it is blue", "B", "B"), ("(B), I think", "B", "B"),
        ("A. not red", None, None), ("A. The car is not red", None, "A"), ("A. X-ray", None, "A"),
    ],
)  # fmt: skip
def test_a_choice_is_neither_denied_nor_several(
    text: str, known: str | None, unknown: str | None
) -> None:
    """With the options' texts, and without."""
    assert ChoiceTruth("A", ("red", "blue", "dark green")).read(text) == known
    assert ChoiceTruth("A").read(text) == unknown


def test_options_that_are_letters_are_named_by_their_place() -> None:
    truth = ChoiceTruth("A", ("B", "A", "A and B", "A, B"))
    texts = ("A", "B.", "(A) B", "A) A", "A and B", "A, B", "C. A and B")
    assert [truth.read(text) for text in texts] == ["A", "B", "A", None, "C", None, "C"]


def test_an_option_that_denies_is_still_an_option() -> None:
    truth = ChoiceTruth("B", ("red", "not red", "neither (A) nor (B)"))
    assert [truth.read(text) for text in ("B. not red", "not red", "Neither (A) nor (B).")] == [
        "B", "B", "C",
    ]  # fmt: skip
