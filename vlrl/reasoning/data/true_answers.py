"""From a row's answer to a true answer of its kind; where no kind is stated, by the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from vlrl.data.fields import shown
from vlrl.errors import DataError, did_you_mean
from vlrl.geometry.boxes import Box
from vlrl.reasoning.boxes import BoxesTruth
from vlrl.reasoning.choices import LETTERS
from vlrl.reasoning.data.options import ReasoningSource
from vlrl.reasoning.data.raw import RawQuestion
from vlrl.reasoning.lists import is_ambiguous
from vlrl.reasoning.plain_text import plain_math
from vlrl.reasoning.quantities import Quantity, read_quantity
from vlrl.reasoning.routes import RouteProblem, confused_stations, line_key, station_key
from vlrl.reasoning.truths import (
    ChoiceTruth,
    ExpressionTruth,
    Kind,
    ListTruth,
    NumberTruth,
    RouteTruth,
    TextTruth,
    Truth,
    YesNoTruth,
)
from vlrl.reasoning.units import unit_named

KINDS: tuple[Kind, ...] = get_args(Kind)
_YES_NO: Mapping[str, bool] = {"yes": True, "true": True, "no": False, "false": False}
_PLAIN_NUMBER = re.compile(r"\s*[-+−]?\s*[0-9][0-9, ]*(?:\.[0-9]+)?\s*(?:%|°|[A-Za-z]{1,3})?\s*")
_UNIT_AT_END = re.compile(r"[A-Za-z]{1,3}\s*$")
_DASHED = re.compile(r"[0-9]+(?:-[0-9]+)+|[0-9]+(?:[/.][0-9]+){2,}")
"""A date, a range or a telephone number, and no difference."""
_MATH = re.compile(r"\\|[=^√π]|[0-9]\s*[-+*/]\s*[0-9]")


def true_answer(
    raw: RawQuestion,
    source: ReasoningSource,
    choices: tuple[str, ...],
    boxes: tuple[Box, ...] | None,
) -> Truth:
    """The true answer; raises DataError that names the row and the field."""
    kind = _kind(raw, source, choices)
    if kind == "route":
        return RouteTruth(_route(raw))
    if kind == "boxes":
        if not boxes:
            raise DataError(f"{raw.where}: field 'boxes' is missing, which is the answer here")
        return BoxesTruth(boxes)
    answer = raw.answer
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        raise DataError(f"{raw.where}: field 'answer' is empty")
    if kind == "list":
        if not isinstance(answer, list | tuple):
            if is_ambiguous(str(answer)):
                raise DataError(
                    f"{raw.where}: field 'answer' must be a list such as [100, 200], not "
                    f"{shown(answer)}, which may be one number"
                )
            answer = ListTruth(()).read(str(answer)) or ()
        return ListTruth(tuple(map(str, answer)), bool(raw.ordered), *_tolerances(raw, source))
    if isinstance(answer, list | tuple | Mapping):
        raise DataError(f"{raw.where}: field 'answer' must be one {kind}, not {shown(answer)}")
    if kind == "choice":
        return ChoiceTruth(_letter(str(answer), choices, raw.where), choices)
    if kind == "yes_no":
        said = answer if isinstance(answer, bool) else YesNoTruth(True).read(str(answer))
        if said is None:
            raise DataError(f"{raw.where}: field 'answer' must be yes or no, not {shown(answer)}")
        return YesNoTruth(said)
    if kind == "number":
        return NumberTruth(_quantity(answer, raw), *_tolerances(raw, source))
    if kind == "expression":
        absolute, relative = _tolerances(raw, source)
        return ExpressionTruth(str(answer), absolute, max(relative, 1e-6))
    return TextTruth(str(answer))


def _kind(raw: RawQuestion, source: ReasoningSource, choices: tuple[str, ...]) -> Kind:
    """Stated by the row, by the source, or seen in the answer."""
    if raw.kind is not None:
        for kind in KINDS:
            if kind == raw.kind:
                return kind
        raise DataError(
            f"{raw.where}: field 'kind': unknown kind {shown(raw.kind)}; "
            f"{did_you_mean(str(raw.kind), KINDS)}"
        )
    if source.kind != "auto":
        return source.kind
    answer = raw.answer
    if raw.lines is not None:
        return "route"
    if choices:
        return "choice"
    if isinstance(answer, bool):
        return "yes_no"
    if isinstance(answer, int | float):
        return "number"
    if isinstance(answer, list | tuple):
        return "list"
    text = str(answer).strip()
    if text.lower() in _YES_NO:
        return "yes_no"
    if re.fullmatch(r"\(?[A-H]\)?\.?", text):
        return "choice"
    if _PLAIN_NUMBER.fullmatch(plain_math(text)) and _read(text) is not None:
        return "number"
    return "expression" if _MATH.search(text) and not _DASHED.fullmatch(text) else "text"


def _letter(answer: str, choices: tuple[str, ...], where: str) -> str:
    letter = ChoiceTruth("", choices).read(answer)
    if letter is None:
        among = f", one of {LETTERS[: len(choices)]} or its text" if choices else ""
        raise DataError(
            f"{where}: field 'answer' must be the letter of a choice{among}, not {shown(answer)}"
        )
    return letter


def _quantity(answer: Any, raw: RawQuestion) -> Quantity:
    plain = isinstance(answer, int | float) and not isinstance(answer, bool)
    found = Quantity(float(answer)) if plain else _read(str(answer))
    if found is None or not math.isfinite(found.value):
        raise DataError(f"{raw.where}: field 'answer' must be one number, not {shown(answer)}")
    if raw.unit is None:
        return found
    return Quantity(found.value, unit_named(str(raw.unit)))


def _read(text: str) -> Quantity | None:
    """A true number; letters after it are its unit, known or not."""
    unit = _UNIT_AT_END.search(plain_math(text))
    return read_quantity(text, unit[0].strip() if unit is not None else "")


def _tolerances(raw: RawQuestion, source: ReasoningSource) -> tuple[float, float]:
    """Absolute and relative."""
    given = (
        ("tolerance", raw.tolerance, source.absolute_tolerance),
        ("relative_tolerance", raw.relative_tolerance, source.relative_tolerance),
    )
    found = []
    for name, own, default in given:
        value = default if own is None else own
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:
            raise DataError(f"{raw.where}: field {name!r} must be 0 or more, not {shown(value)}")
        found.append(float(value))
    return found[0], found[1]


def _route(raw: RawQuestion) -> RouteProblem:
    lines = raw.lines
    if not isinstance(lines, Mapping) or not lines or not all(map(_are_texts, lines.values())):
        raise DataError(
            f"{raw.where}: field 'lines' must map each line to a list of its stations, not "
            f"{shown(lines)}"
        )
    keys = [line_key(str(name)) for name in lines]
    if len(set(keys)) < len(keys):
        raise DataError(f"{raw.where}: field 'lines' names a line twice: {shown(sorted(lines))}")
    confused = confused_stations(lines)
    if confused is not None:
        raise DataError(
            f"{raw.where}: field 'lines' must not tell stations apart by a note in brackets alone, "
            f"which answers may leave out: {shown(confused[0])} and {shown(confused[1])}; give "
            "them different names"
        )
    known = {station_key(one) for stations in lines.values() for one in stations}
    for name, value in (("start", raw.start), ("end", raw.end)):
        if not isinstance(value, str) or station_key(value) not in known:
            raise DataError(
                f"{raw.where}: field {name!r} must be a station of 'lines', not {shown(value)}"
            )
    transfers = raw.num_transfers
    if transfers is not None and (not isinstance(transfers, int) or transfers < 0):
        raise DataError(
            f"{raw.where}: field 'num_transfers' must be 0 or more, not {shown(transfers)}"
        )
    return RouteProblem(
        {str(name): tuple(stations) for name, stations in lines.items()},
        raw.start,
        raw.end,
        transfers,
    )


def _are_texts(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and bool(values) and all(
        isinstance(one, str) for one in values
    )  # fmt: skip
