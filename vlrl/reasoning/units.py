"""Units of measure: their spellings, and the sizes of those that are converted."""

from __future__ import annotations

import re

from vlrl.reasoning.hedges import word_set

_LETTERS = r"[A-Za-zµμΩ]+(?:\^?\{?[23]\}?)?"
UNIT = re.compile(rf"%|°[CF]?|[€£¥]|{_LETTERS}(?:/{_LETTERS})?(?![\w^{{])")
"""A unit, or a word in its place."""

_METRES = {"": "m", "milli": "mm", "centi": "cm", "deci": "dm", "kilo": "km"}
_PLURALS = {
    "degree": "°", "deg": "°", "millilitre": "ml", "milliliter": "ml", "litre": "l", "liter": "l",
    "second": "s", "sec": "s", "millisecond": "ms", "minute": "min", "min": "min", "hour": "h",
    "hr": "h", "day": "day", "gram": "g", "milligram": "mg", "kilogram": "kg", "kilo": "kg",
    "kg": "kg", "km": "km", "mile": "mi", "yard": "yd", "inch": "in", "volt": "V", "watt": "W",
    "newton": "N", "joule": "J", "euro": "€",
    **{f"{size}met{end}": unit for size, unit in _METRES.items() for end in ("re", "er")},
}  # fmt: skip
_SPELLINGS = {
    **_PLURALS,
    **{f"{name}s": unit for name, unit in _PLURALS.items()},
    "percent": "%", "pct": "%", "feet": "ft", "foot": "ft", "inches": "in",
    "kph": "km/h", "kmh": "km/h", "mph": "mi/h",
}  # fmt: skip
SIZES = {
    "mm": ("length", 0.001), "cm": ("length", 0.01), "dm": ("length", 0.1), "m": ("length", 1.0),
    "km": ("length", 1000.0), "in": ("length", 0.0254), "ft": ("length", 0.3048),
    "yd": ("length", 0.9144), "mi": ("length", 1609.344), "ms": ("time", 0.001),
    "s": ("time", 1.0), "min": ("time", 60.0), "h": ("time", 3600.0), "day": ("time", 86400.0),
    "mg": ("mass", 1e-6), "g": ("mass", 0.001), "kg": ("mass", 1.0), "ml": ("volume", 0.001),
    "l": ("volume", 1.0), "mm^2": ("area", 1e-6), "cm^2": ("area", 1e-4), "dm^2": ("area", 0.01),
    "m^2": ("area", 1.0), "km^2": ("area", 1e6),
}  # fmt: skip
"""Kind and size of the units that are converted."""

_SYMBOLS = word_set("% ° °C °F € £ ¥ L V W N J A mA kV kW kJ Hz kHz MHz GHz Pa kPa rad px")
_NAMED = (
    (re.compile(r"\bper\s+cent\b", re.IGNORECASE), "percent"),
    (re.compile(r"(?:\bdegrees?\s+|°\s*)(?:celsius|c)\b", re.IGNORECASE), "°C"),
    (re.compile(r"(?:\bdegrees?\s+|°\s*)(?:fahrenheit|f)\b", re.IGNORECASE), "°F"),
    (re.compile(r"\b(?:square|sq)\b\.?\s+([A-Za-z]+)", re.IGNORECASE), r"\1^2"),
    (re.compile(r"\bcubic\s+([A-Za-z]+)", re.IGNORECASE), r"\1^3"),
    (re.compile(r"\s+per\s+([A-Za-z]+)", re.IGNORECASE), r"/\1"),
)


def in_symbols(text: str) -> str:
    """`square metres` as `metres^2`, `km per hour` as `km/hour`."""
    for pattern, symbol in _NAMED:
        text = pattern.sub(symbol, text)
    return text


def unit_named(unit: str) -> str:
    """A unit in one spelling; unknown ones as they are."""
    return "/".join(_one(part) for part in in_symbols(unit.strip()).split("/"))


def is_unit(unit: str) -> bool:
    """Whether `unit_named`'s spelling is a known unit; of single letters the case counts."""
    return all(
        part in _SYMBOLS or (part if len(part) == 1 else part.lower()) in SIZES or _base(part)
        for part in unit.split("/")
    )


def _base(unit: str) -> bool:
    """Whether it is a power of a known length, such as `m^3`."""
    return unit[-2:] in ("^2", "^3") and SIZES.get(unit[:-2], ("", 0.0))[0] == "length"


def _one(unit: str) -> str:
    name = unit.strip()
    found = re.fullmatch(r"([^\W\d_]+)\^?\{?([23])\}?", name)
    if found is None:
        return _SPELLINGS.get(name.casefold(), name)
    return f"{_SPELLINGS.get(found[1].casefold(), found[1])}^{found[2]}"
