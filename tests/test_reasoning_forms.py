"""Where answers stand: stated ones whole, boxes in tags, stations apart; what a check costs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from helpers_reasoning import LINES, is_right, problem, sample_of

from vlrl.errors import DataError
from vlrl.geometry.boxes import Box, Frame
from vlrl.reasoning import symbolic
from vlrl.reasoning.boxes import BoxesTruth, boxes_in
from vlrl.reasoning.data.layouts import truth_from_columns
from vlrl.reasoning.final_answer import final_answer
from vlrl.reasoning.plain_text import MAX_ANSWER_CHARS
from vlrl.reasoning.quantities import Quantity
from vlrl.reasoning.routes import confused_stations
from vlrl.reasoning.truths import (
    ChoiceTruth,
    ExpressionTruth,
    ListTruth,
    NumberTruth,
    RouteTruth,
    TextTruth,
    YesNoTruth,
)
from vlrl.tasks.visual_reasoning import VisualReasoning

MAPS = Path(__file__).resolve().parent.parent / "assets/maps"


ROUTE = "Route Name: Red Line\nDeparture Stop: Alder\nArrival Stop: Castle"
TWO = f"{ROUTE}\n--\nRoute Name: Blue Line\nDeparture Stop: Castle\nArrival Stop: Fern"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"Answer:\n{TWO}", TWO), (f"The answer is:\n\n{TWO}\n\nThat is all.", TWO),
        (f"Answer: {TWO}", TWO), (f"**Answer:**\n{TWO}\nNumber of Via Stops: 2\n\nGood.",
                                  f"{TWO}\nNumber of Via Stops: 2"),
        ("Answer:\n1. a\n2. b\n\nDone.", "1. a\n2. b"), ("Answer:\n5", "5"),
        ("Answer: 5\nIt is near.", "5"), ("The answer is 5. There are 3 lines.", "5"),
        ("The answer is St. Pancras", "St. Pancras"), ("The answer is St. Pancras. Go.",
                                                       "St. Pancras"),
        ("The answer is Dr. J.R. Smith.", "Dr. J.R. Smith"), ("The answer is 3.5 m.", "3.5 m"),
        ("The answer is B. The bus is blue.", "B"), ("The answer is no. It ends.", "no"),
        ("The answer is 5. No wait, it is 6", None), ("The answer is 5. Wait, it is 6", None),
        ("The answer is 5. No, it is 6.", None), ("The answer is 5.\nOr 6.", None),
        ("The answer is 5. Actually, 6.", None), ("The answer is 5. That is wrong.", None),
        ("The answer is 5. No, the answer is 6.", "6"), ("The answer is 5. I mean 6.", None),
        ("The wrong answer is 5. The answer is 6.", "6"),
        ("The answer is 6. I don't think the answer is 5.", "6"),
    ],
)  # fmt: skip
def test_a_stated_answer_is_whole_and_not_taken_back(text: str, found: str | None) -> None:
    assert final_answer(text) == found


def test_what_is_taken_back_without_a_mark_is_refused_by_the_reader() -> None:
    text = "5. No wait, it is 6"
    assert final_answer(text) == text
    assert not is_right(NumberTruth(Quantity(5.0)), text)
    assert ChoiceTruth("B").read("B. No wait, it is C") is None


def test_a_right_route_after_answer_is_right() -> None:
    task = VisualReasoning(VisualReasoning.Options(data={}, answer="plain"))
    parsed = task.parse(sample_of(RouteTruth(problem())), f"I looked.\n\nAnswer:\n{TWO}")
    assert parsed is not None
    assert parsed.correct


@pytest.mark.parametrize(
    ("lines", "confused"),
    [
        ({"1": ("A (North)", "B", "A (South)")}, ("A (North)", "A (South)")),
        ({"1": ("A (North)", "B"), "2": ("A (South)", "C")}, ("A (North)", "A (South)")),
        ({"1": ("A", "B", "A（南）")}, ("A", "A（南）")),
        ({"1": ("A", "B"), "2": ("A (South)", "C")}, None),
        ({"1": ("A (North)", "B"), "2": ("a (north) station", "C")}, None),
        ({"1": ("A", "B", "A (Transfer Station)")}, None),
        ({"1": ("西单（换乘站）", "B"), "2": ("西单站（支线起始站）",)}, None),
        ({"1": ("A", "B", "A")}, None),
        (LINES, None),
    ],
)
def test_stations_that_only_a_note_tells_apart_are_refused(
    lines: dict[str, tuple[str, ...]], confused: tuple[str, str] | None
) -> None:
    assert confused_stations(lines) == confused
    first = next(iter(lines.values()))
    row = {"lines": {name: list(one) for name, one in lines.items()}, "start": first[0],
           "end": first[1], "answer": None}  # fmt: skip
    if confused is None:
        assert truth_from_columns(row, "row 1").kind == "route"
    else:
        with pytest.raises(DataError, match=r"row 1: field 'lines' must not tell stations apart"):
            truth_from_columns(row, "row 1")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("2024-05-01", TextTruth), ("1998-2002", TextTruth), ("1/5/2024", TextTruth),
        ("3-4", TextTruth), ("3 - 4", ExpressionTruth), ("3/4", ExpressionTruth),
        ("12 V", NumberTruth), ("300 K", NumberTruth), ("1,200 m", NumberTruth),
    ],
)  # fmt: skip
def test_dates_and_ranges_are_no_differences(answer: str, kind: type) -> None:
    truth = truth_from_columns({"answer": answer}, "row 1")
    assert isinstance(truth, kind)
    assert is_right(truth, answer)


def test_a_unit_is_written_out_in_data_and_in_answers() -> None:
    truth = truth_from_columns({"answer": 5, "unit": "square metres"}, "row 1")
    assert is_right(truth, "5 m²")
    assert is_right(truth, "50000 square centimeters")
    assert not is_right(truth, "5 metres")


def test_a_list_that_may_be_one_number_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 1: field 'answer' must be a list such as"):
        truth_from_columns({"answer": "100,200,300", "kind": "list"}, "row 1")


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("<box>0,0,100,100</box>", 1), ("<box>[0, 0, 100, 100]</box>", 1),
        ("<box>(0,0),(100,100)</box>", 1), ("<box>0 0 100 100</box>", 1), ("[0,0,100,100]", 1),
        ('{"bbox_2d": [0, 0, 100, 100]}', 1), ("<box>[[0,0,100,100],[1,1,2,2]]</box>", 2),
        ("<box>0,0,100,100</box><box>1,1,2,2</box>", 2),
        ("<box>0,0,100</box>", 0), ("<box>0,0,100,100,5</box>", 0), ("0,0,100,100", 0),
    ],
)  # fmt: skip
def test_boxes_in_tags_need_no_brackets(text: str, boxes: int) -> None:
    frame = Frame(1000, 1000)
    found = boxes_in(text, frame)
    assert len(found) == boxes
    assert not found or found[0].xyxy == (0, 0, 100, 100)
    assert (BoxesTruth((Box(0, 0, 100, 100, frame),)).read(text) is not None) == bool(boxes)


def test_a_longer_answer_than_is_read_is_none_of_any_kind() -> None:
    long = " " * MAX_ANSWER_CHARS
    frame = Frame(56, 56)
    truths = {"B": ChoiceTruth("B"), "7": NumberTruth(Quantity(7.0)), "yes": YesNoTruth(True),
              "a": ListTruth(("a",)), "x": ExpressionTruth("x"), "bus": TextTruth("bus"),
              "[0,0,9,9]": BoxesTruth((Box(0, 0, 9, 9, frame),))}  # fmt: skip
    for text, truth in truths.items():
        assert truth.read(text) is not None
        assert truth.read(text + long + text) is None


@pytest.mark.parametrize(
    ("script", "start_s", "most_s"),
    [
        ("print('ready', flush=True); input(); input()", 20.0, 8.0),  # hangs at its question
        ("input(); input()", 0.3, 3.0),  # never ready
        ("pass", 20.0, 8.0),  # ends at once
    ],
)
def test_a_process_that_hangs_costs_the_limit_of_a_question(
    script: str, start_s: float, most_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of a start, and one that does not start is given up."""
    monkeypatch.setattr(symbolic, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(symbolic, "START_S", start_s)
    checker = symbolic._Checker((sys.executable, "-S", "-c", script))
    start = time.monotonic()
    assert not any(checker.ask("x", "x") for _ in range(5))
    assert time.monotonic() - start < most_s
    checker.stop()


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_embedded_maps_pay_their_answers_and_no_copied_question(split: str) -> None:
    data = {split: {"path": str(MAPS / f"{split}.jsonl")}}
    task = VisualReasoning(VisualReasoning.Options.model_validate({"data": data}))
    for sample in task.samples(split):
        known = task.known_answers(sample)
        assert known is not None
        right = task.parse(sample, known.right)
        assert right is not None
        assert right.correct
        copied = [
            "\n".join(sample.texts),
            sample.columns.get("question", ""),
            *known.wrong.values(),
        ]
        for text in copied:
            parsed = task.parse(sample, text)
            assert parsed is None or not parsed.correct, (sample.id, text)
