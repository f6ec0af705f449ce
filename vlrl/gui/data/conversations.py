"""Conversations in data: what was asked, and the place in the answer."""

from __future__ import annotations

import json
import re
from itertools import pairwise

from vlrl.data.fields import Row, field_of, row_of, shown
from vlrl.errors import DataError
from vlrl.gui.answers import read_places

_ASKS, _ANSWERS = ("human", "user"), ("gpt", "assistant", "function_call")
_IMAGE = re.compile(r"(?:Image-[0-9]+:\s*)?<image>\s*")


def turns_of(row: Row, where: str) -> list[tuple[str, str]]:
    """(question, answer) of every turn of `conversations`, a list or its JSON; at least one.

    Raises DataError. A system message is left out.
    """
    value = field_of(row, "conversations", where)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: field 'conversations' is not JSON: {error}") from error
    if not isinstance(value, list):
        raise DataError(
            f"{where}: field 'conversations' must be a list of {{from, value}}, not {shown(value)}"
        )
    said = [row_of(one, f"{where}, field 'conversations'") for one in value]
    turns = [
        (str(asked.get("value", "")), str(answer.get("value", "")))
        for asked, answer in pairwise(said)
        if asked.get("from") in _ASKS and answer.get("from") in _ANSWERS
    ]
    if not turns:
        raise DataError(
            f"{where}: field 'conversations' has no question of {_ASKS[0]!r} that {_ANSWERS[0]!r} "
            "answers"
        )
    return turns


def question_of(text: str) -> str:
    """A question without the mark of its image."""
    return _IMAGE.sub("", text).strip()


def answered_place(text: str, syntax: str) -> list[float] | None:
    """The first place in an answer: two numbers, or four of a box; None without one."""
    places = read_places(text, True, syntax)
    return list(places[0].values) if places else None
