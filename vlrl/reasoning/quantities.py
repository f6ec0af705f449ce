"""Numbers in answers, with their units: thousands separators, percent, fractions, signs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vlrl.reasoning.arithmetic import value_of
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS, plain_math, plain_words

_DIGITS = r"(?:[0-9]{1,3}(?:[, ][0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|\.[0-9]++"
_NUMBER = re.compile(
    rf"(?<![\w.^])(?P<sign>[-+]?)\s?(?P<whole>{_DIGITS})"
    r"(?:\s?(?:[eE]|\*\s?10\s?\^)\s?\{?(?P<power>[-+]?[0-9]{1,3})\}?)?"
    r"(?:(?P<mixed>\s[0-9]{1,9})?\s?/\s?(?P<below>[0-9]{1,9}))?(?!\.?[0-9])"
)
_UNIT = re.compile(r"\s?(%|°[CF]?|[€£]|[A-Za-zµΩ]+(?:\^[23])?(?:/[A-Za-z]+(?:\^[23])?)?)")
_NAMES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
)  # fmt: skip
_WORDS = {word: float(value) for value, word in enumerate(_NAMES)}
_SPELLINGS = {
    "percent": "%", "per cent": "%", "degrees": "°", "degree": "°", "deg": "°", "metres": "m",
    "metre": "m", "meters": "m", "meter": "m", "kilometres": "km", "kilometers": "km",
    "kilometre": "km", "kilometer": "km", "centimetres": "cm", "centimeters": "cm",
    "millimetres": "mm", "millimeters": "mm", "seconds": "s", "second": "s", "sec": "s",
    "minutes": "min", "minute": "min", "mins": "min", "hours": "h", "hour": "h", "hr": "h",
    "hrs": "h", "grams": "g", "gram": "g", "kilograms": "kg", "kilogram": "kg", "feet": "ft",
    "foot": "ft", "inches": "in", "inch": "in", "miles": "mi", "mile": "mi", "litres": "l",
    "liters": "l", "litre": "l", "liter": "l",
}  # fmt: skip
_SIZES = {
    "mm": ("length", 0.001), "cm": ("length", 0.01), "m": ("length", 1.0), "km": ("length", 1000.0),
    "in": ("length", 0.0254), "ft": ("length", 0.3048), "mi": ("length", 1609.344),
    "s": ("time", 1.0), "min": ("time", 60.0), "h": ("time", 3600.0), "g": ("mass", 0.001),
    "kg": ("mass", 1.0), "ml": ("volume", 0.001), "l": ("volume", 1.0),
    "mm^2": ("area", 1e-6), "cm^2": ("area", 1e-4), "m^2": ("area", 1.0), "km^2": ("area", 1e6),
}  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """A number and its unit, "" without one."""

    value: float
    unit: str = ""


def read_quantity(text: str) -> Quantity | None:
    """The one number that an answer states; None without one, or with several.

    `x = 3` and `15/3 = 5` state what follows the last equals sign. Percent is a unit. Never raises.
    """
    if len(text) > MAX_ANSWER_CHARS:
        return None
    plain = re.split("[=≈]", plain_math(text))[-1].strip()
    word = _WORDS.get(plain_words(plain))
    if word is not None:
        return Quantity(word)
    if re.search(r"\\|[√π^(]", plain) and (value := value_of(plain)) is not None:
        return Quantity(value)
    found = list(_NUMBER.finditer(plain))
    if len(found) != 1:
        return None
    number = _value(found[0])
    unit = _UNIT.match(plain, found[0].end())
    return None if number is None else Quantity(number, unit_named(unit[1] if unit else ""))


def unit_named(unit: str) -> str:
    """A unit in one spelling."""
    return _SPELLINGS.get(unit.casefold().strip(), unit.strip())


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
                _SIZES.get(one, (one, 1.0)) for one in (given.unit.lower(), true.unit.lower())
            )
            if kind != other:
                return False
            value *= size / other_size
    if not (math.isfinite(value) and math.isfinite(true.value)):
        return False
    rounding = 1e-9 * abs(true.value)
    return abs(value - true.value) <= max(absolute, relative * abs(true.value), rounding)


def _value(found: re.Match[str]) -> float | None:
    whole = float(re.sub("[, ]", "", found["whole"]))
    if found["power"]:
        whole *= 10.0 ** int(found["power"]) if abs(int(found["power"])) <= 300 else math.nan
    if found["below"]:
        below = float(found["below"])
        if not below:
            return None
        mixed = found["mixed"]
        whole = whole / below if mixed is None else whole + float(mixed) / below
    value = -whole if found["sign"] == "-" else whole
    return value if math.isfinite(value) else None
