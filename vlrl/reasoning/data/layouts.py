"""The layouts of published files: which column holds what.

Keys are those that each project's loader or card states; docs/visual_reasoning.md names the source
of each.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vlrl.data.fields import Row, field_of, row_of, shown
from vlrl.errors import DataError
from vlrl.reasoning.choices import LETTERS
from vlrl.reasoning.data.conversations import Turns, images_in, split_answer, turns_of
from vlrl.reasoning.data.options import ReasoningSource
from vlrl.reasoning.data.raw import RawQuestion
from vlrl.reasoning.data.true_answers import true_answer
from vlrl.reasoning.final_answer import final_answer
from vlrl.reasoning.truths import Truth

OURS = (
    "kind", "choices", "boxes", "salience", "unit", "tolerance", "relative_tolerance", "ordered",
    "lines", "start", "end", "num_transfers",
)  # fmt: skip
"""Columns of a row that every layout passes on under their own names."""
ANSWERS = ("answer", "solution", "ground_truth", "label")


@dataclass(frozen=True)
class Place:
    """Where a row is from."""

    where: str
    id: str
    """What it is called without an id of its own: file and number."""


Layout = Callable[[Row, Place], RawQuestion]


def _question(
    row: Row, place: Place, turns: Turns, answer: Any, *, images: Any = None, **known: Any
) -> RawQuestion:
    stated = {name: row[name] for name in OURS if row.get(name) is not None}
    given = images if images is not None else _images(row, place.where)
    named = row.get("id")
    if named is None:
        named = row.get("question_id")
    hidden = {
        "images", "image", "messages", "conversations", "prompt", "figure", "json", "lines",
    }  # fmt: skip
    return RawQuestion(
        where=place.where,
        id=place.id if named is None else str(named),
        turns=turns,
        images=tuple(given) if isinstance(given, list | tuple) else (given,),
        answer=answer,
        fields={name: value for name, value in row.items() if name not in hidden},
        **{**stated, **known},
    )


def _images(row: Row, where: str) -> Any:
    """The column `images` or `image`."""
    return (
        row["image"] if "images" not in row and "image" in row else field_of(row, "images", where)
    )


def _text(row: Row, name: str, where: str) -> str:
    value = field_of(row, name, where)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field {name!r} must be a non-empty text, not {shown(value)}")
    return value


def _stated(row: Row, where: str) -> Any:
    """The answer in the first column that has one; of a worked solution what it ends with."""
    for name in ANSWERS:
        if row.get(name) is not None:
            value = row[name]
            marked = isinstance(value, str) and ("<answer>" in value or "boxed{" in value)
            return (final_answer(value) or value) if marked else value
    raise DataError(f"{where}: field {ANSWERS[0]!r} is missing; the row has {sorted(row)}")


def rows(row: Row, place: Place) -> RawQuestion:
    """Our own names: images, question, answer, and what else `OURS` lists."""
    # A route is checked on its lines, boxes against boxes.
    other = row.get("lines") is not None or row.get("kind") in ("route", "boxes")
    answer = row.get("answer") if other else _stated(row, place.where)
    return _question(row, place, (("user", _text(row, "question", place.where)),), answer)


def easy_r1(row: Row, place: Place) -> RawQuestion:
    """`images`, `problem`, `answer`."""
    return _question(
        row, place, (("user", _text(row, "problem", place.where)),), _stated(row, place.where)
    )


def messages(row: Row, place: Place) -> RawQuestion:
    """ms-swift's `messages` or LLaVA's `conversations`; the last assistant's turn answers them.

    A column with the answer (`solution`), as data for RL has it, goes before that turn.
    """
    name = "messages" if "messages" in row else "conversations"
    value = field_of(row, name, place.where)
    asked, said = split_answer(turns_of(value, name, place.where), name, place.where)
    known = any(row.get(column) is not None for column in ANSWERS)
    if not known and said is None:
        raise DataError(
            f"{place.where}: field {name!r} has no answer of the assistant's, and the row has none "
            f"of {', '.join(ANSWERS)}"
        )
    answer = _stated(row, place.where) if known else (final_answer(said or "") or said)
    return _question(row, place, asked, answer, images=_in_turns(row, name, place.where))


def trl(row: Row, place: Place) -> RawQuestion:
    """`prompt` (a text or messages) and `images` or `image`; the answer is in a column."""
    value = field_of(row, "prompt", place.where)
    answer = _stated(row, place.where)
    if isinstance(value, str):
        return _question(row, place, (("user", value),), answer)
    asked, _ = split_answer(turns_of(value, "prompt", place.where), "prompt", place.where)
    return _question(row, place, asked, answer, images=_in_turns(row, "prompt", place.where))


def _in_turns(row: Row, name: str, where: str) -> list[Any] | None:
    """Images that stand in the turns themselves; None where the row has a column of them."""
    if row.get("images") is not None or row.get("image") is not None:
        return None
    return images_in(row[name], name, where) or None


def geometry3k(row: Row, place: Place) -> RawQuestion:
    """EasyR1's table (`problem`, `answer`), or the authors' `data.json` with its letter."""
    if "problem" in row:
        question = easy_r1(row, place)
        # The letter and its texts are there too; the answer is the text.
        return RawQuestion(**{**vars(question), "choices": None})
    choices = field_of(row, "choices", place.where)
    return _question(
        row,
        place,
        (("user", _text(row, "problem_text", place.where)),),
        field_of(row, "answer", place.where),
        kind="choice",
        choices=choices,
    )


def vstar(row: Row, place: Place) -> RawQuestion:
    """test_questions.jsonl (`text`, `label`), or an annotation whose first option is right.

    The options of an annotation are put into an order that its id fixes; `bbox` is xywh.
    """
    if "text" in row:
        return _question(
            row,
            place,
            (("user", _text(row, "text", place.where)),),
            field_of(row, "label", place.where),
            kind="choice",
        )
    options = field_of(row, "options", place.where)
    if not isinstance(options, list) or len(options) < 2:
        raise DataError(f"{place.where}: field 'options' must list two or more: {shown(options)}")
    order = list(range(len(options)))
    random.Random(place.id).shuffle(order)
    return _question(
        row,
        place,
        (("user", _text(row, "question", place.where)),),
        LETTERS[order.index(0)],
        kind="choice",
        choices=[options[i] for i in order],
        boxes=_xyxy(row.get("bbox"), place.where),
    )


def _xyxy(boxes: Any, where: str) -> Any:
    if boxes is None:
        return None
    try:
        return [[x, y, x + w, y + h] for x, y, w, h in boxes]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: field 'bbox' must be a list of [x, y, width, height], not {shown(boxes)}"
        ) from error


def treebench(row: Row, place: Place) -> RawQuestion:
    """`question`, `multi-choice options` (a text), `answer`, `target_instances` (xyxy).

    The training set has `problem` instead of the first two, and an object's box as its `bbox`.
    """
    asked = _text(row, "problem" if "problem" in row else "question", place.where)
    options = row.get("multi-choice options")
    if isinstance(options, str) and options.strip() and options.strip() not in asked:
        asked = f"{asked} Options:\n{options.strip()}"
    return _question(
        row,
        place,
        (("user", asked),),
        field_of(row, "answer", place.where),
        boxes=_instances(field_of(row, "target_instances", place.where), place.where),
    )


def _instances(value: Any, where: str) -> Any:
    """Boxes, or objects with a `bbox`; also a list that is written as text."""
    listed = _literal(value, where)
    if not isinstance(listed, list):
        return listed
    # A table may fill rows of fewer objects up with None.
    return [
        one.get("bbox") if isinstance(one, Mapping) else one for one in listed if one is not None
    ]


def _literal(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(
            f"{where}: field 'target_instances' must be a list of boxes, not {shown(value)}"
        ) from error


def reasonmap(row: Row, place: Place) -> RawQuestion:
    """ReasonMap and ReasonMap-Plus: `figure`, `type`, stations, and the city's lines in `json`.

    `answer` is 1 or 0 for yes or no, the place of the right option in Counting1, and a number in
    Counting2 and 3. The columns `map` and `transfers` are for weights by difficulty.
    """
    where = place.where
    kind = str(row.get("type") or "planning").lower()
    name = "question" if "question" in row else "question_long"
    turns: Turns = (("user", _text(row, name, where)),)
    transfers = row.get("question_transfer_count")
    known: dict[str, Any] = {"images": (field_of(row, "figure", where),)}
    columns = {"map": row.get("difficulty_city", ""), "transfers": 0}
    if kind == "planning":
        columns["transfers"] = transfers if transfers is not None else 0
        known |= {
            "kind": "route",
            "lines": _lines(field_of(row, "json", where), where),
            "start": field_of(row, "station_1", where),
            "end": field_of(row, "station_2", where),
            "num_transfers": transfers,
        }
        return _question({**row, **columns}, place, turns, row.get("answer"), **known)
    answer = field_of(row, "answer", where)
    if not isinstance(answer, int) or (kind == "counting1" and not 0 <= answer < len(LETTERS)):
        raise DataError(f"{where}: field 'answer' must be a whole number, not {shown(answer)}")
    if kind.startswith("torf"):
        known["kind"], answer = "yes_no", bool(answer)
    elif kind == "counting1":
        known["kind"], answer = "choice", LETTERS[answer]
    elif kind in ("counting2", "counting3"):
        known["kind"] = "number"
    else:
        raise DataError(
            f"{where}: field 'type' must be planning, TorF1, TorF2, Counting1, Counting2 or "
            f"Counting3, not {shown(row.get('type'))}"
        )
    return _question({**row, **columns}, place, turns, answer, **known)


def _lines(value: Any, where: str) -> Any:
    """Lines with stations, also as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: field 'json' must be JSON of lines: {error}") from error
    # A table gives every row all lines of every city, None where it has none.
    return {k: v for k, v in row_of(value, f"{where}, field 'json'").items() if v is not None}


def truth_from_columns(row: Row, where: str) -> Truth:
    """The true answer of a row without its images; raises DataError."""
    asked = {"question": "?", "image": "", **row}
    raw = rows(
        {name: value for name, value in asked.items() if name != "boxes"}, Place(where, where)
    )
    choices = tuple(map(str, raw.choices)) if isinstance(raw.choices, list | tuple) else ()
    return true_answer(raw, ReasoningSource(path=""), choices, None)


LAYOUTS: Mapping[str, Layout] = {
    "rows": rows,
    "easy_r1": easy_r1,
    "messages": messages,
    "trl": trl,
    "geometry3k": geometry3k,
    "vstar": vstar,
    "treebench": treebench,
    "reasonmap": reasonmap,
}
