"""Numbers in answers, with their units: thousands separators, percent, fractions, signs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vlrl.reasoning.arithmetic import value_of
from vlrl.reasoning.hedges import OTHERS, QUESTIONS, WRONG, is_negation, word_set, words_of
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS, plain_math
from vlrl.reasoning.units import SIZES, UNIT, in_symbols, is_unit, unit_named

_DIGITS = r"(?:[0-9]{1,3}(?:[, ][0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|\.[0-9]++"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s?(?P<whole>{_DIGITS})"
    r"(?:\s?(?:[eE]|\*\s?10\s?\^)\s?\{?(?P<power>[-+]?[0-9]{1,3})\}?)?"
    r"(?:(?P<mixed>\s[0-9]{1,9})?\s?/\s?(?P<below>[0-9]{1,9}))?(?!\.?[0-9])"
)
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NAMES = {name: float(value) for value, name in enumerate(_ONES)} | {
    name: 10.0 * value for value, name in enumerate(_TENS, start=2)
}
_NAME = re.compile(
    rf"(?:({'|'.join(_TENS)})(?:[- ]({'|'.join(_ONES[1:10])}))?|({'|'.join(_ONES)}))\b", re.I
)
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SCALE = re.compile(rf"\s?({'|'.join(_SCALES)})\b", re.I)
_SIGN = re.compile(r"(?:(minus|negative)|plus|positive)\s+(?![-+])", re.I)
_START = re.compile(
    rf"(?:\b{_SIGN.pattern})?(?:[-+]?\s?[€£¥]?\s?(?:\.?[0-9]|[(\[√π\\])|(?<![\w-]){_NAME.pattern})",
    re.I,
)
_EXPRESSION = re.compile(r"[\\√π^(]|(?<![A-Za-z])pi\b|sqrt")
_APART = re.compile(r"[0-9]\s+\(")
"""`3 (4)`: no product."""

_LINKS = word_set(
    "is are was were be answer it's that's there's there're i'd equals equal count counted get "
    "got gives give have has see find found obtain makes make totals total say think guess take "
    "takes took pass passes lie lies meet meets need needs require requires contain contains "
    "include includes show shows cost costs last lasts weighs measures serves crosses"
)
"""Words after which a number is stated."""
_LINK_PAIRS = frozenset(
    f"{first} {second}"
    for firsts, second in (
        ("equal equals comes amounts sums evaluates simplifies rounds", "to"),
        ("total sum number count value", "of"),
    )
    for first in firsts.split()
)
_NEUTRAL = word_set(
    "about approximately approx around roughly exactly precisely only just so thus hence "
    "therefore then a"
)
_PARTS = word_set(
    "more less fewer than least most nearly almost half quarter quarters third thirds double "
    "twice triple plus minus over divided multiplied squared cubed root power pi dozen dozens "
    "couple"
)
_OTHER_NUMBER = frozenset({*_NAMES, *_SCALES, *_PARTS, *OTHERS, *QUESTIONS, *WRONG, "no", "none"})
_RELATIONS = re.compile(r"[<>≤≥≠±∓?!^+*|]|[百千万萬亿億半或不]")
_TAIL = re.compile(r"(?:[^\W\d_]|(?<=[^\W\d_])['’/-](?=[^\W\d_])|[\s,;:()&.])*")
_AROUND = " \t\n\"'“”‘’`,;:_#"
_ORDINALS = ("st", "nd", "rd", "th")
_LETTER = re.compile(r"\s[b-z](?![\w'’])")
"""`3 times x`."""
_TIMES_TEN = re.compile(r"(?<=[0-9])\s?[xX]\s?(?=10\^)")
_COUNTED = re.compile(r"[^A-Za-z]*[0-9][^A-Za-z]* [a-z]{2,}")
_CHAINED = re.compile(r"[0-9)}](\s?[,;]\s?(?:and )?|\s(?:and )?)([A-Za-z]\w*)$")
"""A number and the name of a next one: `3, y` of `x = 3, y = 4`."""


@dataclass(frozen=True)
class Quantity:
    """A number and its unit, "" without one."""

    value: float
    unit: str = ""


def read_quantity(text: str, unit: str = "") -> Quantity | None:
    """The one number that an answer states; None without one, or with anything that changes it.

    `[the answer is] [x =] 3 [stops]`: before it a common verb or a colon, after it a unit or words,
    none of which is another number, an operator or a denial. `15/3 = 5` states what follows the
    last equals sign, if all sides agree to 1%. Percent is a unit, and so is what `unit` names.
    Never raises.
    """
    if len(text) > MAX_ANSWER_CHARS or "?" in text:
        return None
    *before, last = re.split("[=≈]", _TIMES_TEN.sub("*", plain_math(text)))
    found = _stated(last, unit)
    if found is None:
        return None
    for side in before:
        own = _stated(side, unit) or _closed(side)
        if own is not None:
            if not (same_quantity(own, found, relative=0.01)
                    or same_quantity(found, own, relative=0.01)):  # fmt: skip
                return None
        elif re.search("[<>≤≥≠±∓]", side) or _denies(side) or _names_another(side.strip()):
            return None
    return found


def _names_another(side: str) -> bool:
    """Whether a side ends with the name of a second number; the unit of `3 cm * 4 cm` is none."""
    found = _CHAINED.search(side)
    return found is not None and not (found[1] == " " and is_unit(unit_named(found[2])))


def measured(text: str) -> Quantity | None:
    """A number that is all of the text, with a known unit or one small word: `3 stops`.

    "5th Avenue" and "12 Main Street" are none.
    """
    plain = plain_math(text) if len(text) <= MAX_ANSWER_CHARS else ""
    return _measured(plain, "", words=_COUNTED.fullmatch(plain) is not None)


def same_quantity(
    true: Quantity, given: Quantity, *, absolute: float = 0.0, relative: float = 0.0
) -> bool:
    """Whether two quantities agree within a tolerance, in the true one's unit.

    A missing unit is the true one's; of a true number without a unit any unit will do, but 50%
    is 0.5. Other units are converted where both are known, and differ otherwise.
    """
    value = given.value
    if given.unit and given.unit != true.unit:
        if not true.unit:
            value /= 100.0 if given.unit == "%" else 1.0
        else:
            (kind, size), (other, other_size) = (
                SIZES.get(one, (one, 1.0)) for one in (given.unit.lower(), true.unit.lower())
            )
            if kind != other:
                return False
            value *= size / other_size
    if not (math.isfinite(value) and math.isfinite(true.value)):
        return False
    rounding = 1e-9 * abs(true.value)
    return abs(value - true.value) <= max(absolute, relative * abs(true.value), rounding)


def _closed(text: str) -> Quantity | None:
    value = value_of(text)
    return None if value is None else Quantity(value)


def _stated(text: str, unit: str) -> Quantity | None:
    """The number of one side, after what introduces it."""
    text = text.strip(_AROUND)
    start = _START.search(text)
    if start is None or not _introduces(text[: start.start()]):
        return None
    body = text[start.start() :]
    found = _measured(body, unit, words=True)
    if found is None and body[:1] + body[-1:] in ("()", "[]"):
        return _measured(body[1:-1].strip(_AROUND), unit, words=True)
    return found


def _introduces(text: str) -> bool:
    """Whether a number that follows is stated: nothing, a verb or a colon stands before it."""
    if _RELATIONS.search(text) or _denies(text):
        return False
    if text.rstrip().endswith(":"):
        return True
    words = words_of(text.strip(_AROUND).removesuffix("."))
    while words and words[-1] in _NEUTRAL:
        words.pop()
    return not words or words[-1] in _LINKS or " ".join(words[-2:]) in _LINK_PAIRS


def _denies(text: str) -> bool:
    return any(word in _OTHER_NUMBER or is_negation(word) for word in words_of(text))


def _measured(text: str, unit: str, *, words: bool) -> Quantity | None:
    """The number that a text begins with; None if what follows is no unit, nor words if allowed."""
    sign = _SIGN.match(text)
    text = text[sign.end() :] if sign is not None else text
    money = re.match(r"([-+]?)\s?([€£¥])\s?", text)
    text = money[1] + text[money.end() :] if money is not None else text
    if money is None and _EXPRESSION.search(text) and not _APART.search(text):
        found = _computed(text, unit)
        if found is not None:
            return found if sign is None or not sign[1] else Quantity(-found.value, found.unit)
    number, name = _NUMBER.match(text), _NAME.match(text)
    if number is not None:
        value, rest = _value(number), text[number.end() :]
    elif name is not None and words:
        parts = [one.casefold() for one in name.groups() if one]
        value, rest = sum(_NAMES[one] for one in parts), text[name.end() :]
    else:
        return None
    while value is not None and (scale := _SCALE.match(rest)) is not None:
        value, rest = value * _SCALES[scale[1].casefold()], rest[scale.end() :]
    own = _unit_in(rest, unit, words=words)
    if value is None or own is None or (money is not None and own):
        return None
    value = -value if sign is not None and sign[1] else value
    return Quantity(value, money[2] if money is not None else own)


def _computed(text: str, unit: str) -> Quantity | None:
    """`2\\sqrt{3}` and `3π cm`."""
    value = value_of(text)
    if value is not None:
        return Quantity(value)
    end = re.search(rf"\s?({UNIT.pattern})$", in_symbols(text)) if len(text) < 200 else None
    if end is None or not _knows(unit_named(end[1]), unit):
        return None
    value = value_of(in_symbols(text)[: end.start()])
    return None if value is None else Quantity(value, unit_named(end[1]))


def _knows(name: str, unit: str) -> bool:
    return is_unit(name) or (bool(unit) and name.casefold() == unit.casefold())


def _unit_in(rest: str, unit: str, *, words: bool) -> str | None:
    """The unit that follows a number, or the first word; None if it is neither."""
    text = in_symbols(rest).strip(" ,;:.")
    text = text.rstrip("!. ") if len(text) > 1 else text
    if not text:
        return ""
    found = UNIT.match(text)
    name = unit_named(found[0]) if found is not None else ""
    if found is not None and _knows(name, unit):
        rest = text[found.end() :]
        if name == "in" and rest:  # "3 in total"
            name = ""
    else:
        first = re.match(r"\(?([^\W\d_]++)", text)
        if first is None or not words:
            return None
        is_attached = rest[:1].isascii() and rest[:1].isalpha()
        if len(first[1]) == 1 and first[1].isascii() and first[1] != "a":
            return None
        if is_attached and first[1] not in _ORDINALS:
            return None
        # "3, as counted" has no unit.
        name, rest = "" if rest.lstrip()[:1] in ",;:(" else first[1], text
    if not rest:
        return name
    wrong = _TAIL.fullmatch(rest) is None or _RELATIONS.search(rest) or _LETTER.search(rest)
    return None if not words or wrong or _denies(rest) else name


def _value(found: re.Match[str]) -> float | None:
    whole = float(re.sub("[, ]", "", found["whole"]))
    if found["power"]:
        whole *= 10.0 ** int(found["power"]) if abs(int(found["power"])) <= 300 else math.nan
    if found["below"]:
        below = float(found["below"])
        above = whole if found["mixed"] is None else float(found["mixed"])
        if not below or (found["mixed"] is not None and above >= below):
            return None
        whole = above / below + (0.0 if found["mixed"] is None else whole)
    value = -whole if found["sign"] == "-" else whole
    return value if math.isfinite(value) else None
