"""VideoChat-R1: rewards and evaluations of spans, lists of intervals, and tracked boxes."""

from __future__ import annotations

import ast
import os
import random
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source
from released.time_r1 import CRASH, Bar, evaluation, form, reward, silent, spans, unseen

COMMIT = "73b2ea9ac83ad5c0bcd893bffd1cbb2e7c167068"
REPOSITORY = "OpenGVLab/VideoChat-R1"

LISTS = (
    "[{x}]",
    "[{x}]",
    "[{x}]",
    "[{x},]",
    " [{x}] ",
    "[{x}]\n",
    "[[{x}]]",
    "{x}",
    "[{x}",
    "[]",
    "none",
)
PARTS = (
    "<think>a</think><answer>A</answer><glue>{g}</glue>",
    "<think>a</think><answer>A</answer><glue>{g}</glue>",
    "<think>a</think>\n<answer>B</answer>\n<glue>{g}</glue>",
    "<answer>A</answer><glue>{g}</glue>",
    "<think>a</think><answer>A</answer><glue>{g}",
    "<glue>{g}</glue><glue>[(0, 30)]</glue>",
    "<think>a</think><answer>A</answer>",
)
_TUPLE = r"\([0-9]+(\.[0-9]+)?,\s*[0-9]+(\.[0-9]+)?\)"
VALID = re.compile(rf"\[({_TUPLE}(,\s*{_TUPLE})*,?)?\]\n?")
"""A list as the release takes it, up to reversed intervals."""


def lists(random: random.Random) -> list[Json]:
    """Rows of [answer, true intervals]; reversed, empty, touching and equal ones among them."""
    rows: list[Json] = []
    for _ in range(190):
        true = [_interval(random) for _ in range(random.choice((0, 1, 1, 1, 2, 3)))]
        said = [list(one) for one in true if random.random() < 0.8]
        said += [_interval(random) for _ in range(random.choice((0, 0, 1, 2)))]
        if said and random.random() < 0.15:
            said[0] = [said[0][1], said[0][0]]
        written = ", ".join(f"({a:g}, {b:g})" for a, b in said)
        text = random.choice(PARTS).format(g=random.choice(LISTS).format(x=written))
        rows.append([text, true])
    plain = "<think>a</think><answer>A</answer><glue>{}</glue>"
    for said_, true in (
        ("[]", []), ("[]", [[1.0, 2.0]]), ("[(1, 2)]", []), ("[(3, 3)]", [[3.0, 3.0]]),
        ("[(3, 3)]", [[5.0, 5.0]]), ("[(3, 3)]", [[1.0, 5.0]]), ("[(1, 2), (9, 7)]", [[1.0, 2.0]]),
        ("[(1, 2), (2, 3)]", [[1.0, 3.0]]), ("[(1,2),(1,2)]", [[1.0, 2.0]]),
        ("[(-1, 2)]", [[0.0, 2.0]]), ("[(1, 2), (3)]", [[1.0, 2.0]]), ("[(1., 2)]", [[1.0, 2.0]]),
        ("[(0.30000000000000004, 2.00000000000001)]", [[0.3, 2.0]]), ("", []), ("none", []),
    ):  # fmt: skip
        rows.append([plain.format(said_), true])
    return rows


def _interval(random: random.Random) -> list[float]:
    start = float(random.choice((random.randint(0, 12), round(random.uniform(0, 12), 1))))
    return [start, round(start + random.choice((0.0, 1.0, 1.5, 4.0, 6.0)), 1)]


def interval_reward(source: Source) -> Answer:
    """`iou_glue_reward` of the task mixture's file."""
    given = {"re": re, "ast": ast, "os": os, "datetime": datetime}
    names = ("is_valid_two_d_list_format", "iou_glue_reward")
    iou: Any = source.define("src/open_r1/grpo_tasks.py", names, given)["iou_glue_reward"]

    def value(row: Any) -> Json:
        truth = [tuple(one) for one in row[1]]
        return float(iou([row[0]], [{"glue": truth}], [60.0])[0])

    return value


def interval_evaluation(source: Source) -> Answer:
    """`process_work_items` of the evaluation on NExT-GQA."""
    names = (
        "extract_characters_regex", "merge_intervals", "compute_iou", "is_valid_two_d_list_format",
        "process_work_items",
    )  # fmt: skip
    return _evaluated(
        source, "src_eval/evaluate_gqa.py", names, lambda row: {"answer": "A", "glue": row[1]}
    )


def tracks(random: random.Random) -> list[Json]:
    """Rows of [first x of the truth, step of the answer, number of boxes, kind of answer]."""
    rows: list[Json] = [
        [random.randint(0, 40), random.randint(-6, 8), random.choice((8, 8, 8, 8, 7, 9, 0)),
         random.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))]
        for _ in range(205)
    ]  # fmt: skip
    return rows


def tracking_case(row: Sequence[int]) -> tuple[str, list[list[float]]]:
    """Answer and true boxes in 0..1 of a row of `tracks`."""
    first, step, num, kind = row
    true = [[(first + k) / 100, 0.1, (first + k + 30) / 100, 0.6] for k in range(8)]
    boxes: list[list[float]] = []
    for k in range(num):
        x = (first + k + step * (k % 4)) / 100
        boxes.append([round(x, 3), 0.1, round(x + 0.3, 3), 0.6])
    if kind == 1 and boxes:
        boxes[0] = boxes[0][:3]
    if kind == 2 and boxes:
        boxes[0] = boxes[0][2:] + boxes[0][:2]
    if kind == 3 and boxes:
        boxes[0] = [boxes[0][2], *boxes[0][1:]]
    written = str(boxes)
    if kind == 4:
        written = written.replace("], [", "],\n[")
    if kind == 5:
        written = written[:-1]
    text = f"<think>a</think><answer>{written}</answer>"
    if kind == 6:
        text += "<answer>[[0.1, 0.1, 0.4, 0.6]]</answer>"
    if kind == 7:
        text = text.removesuffix("</answer>")
    if kind == 8:
        text = text.replace("<answer>", "").replace("</answer>", "")
    if kind == 9:
        text = text.removeprefix("<think>a</think>")
    if kind == 10:
        text = text.replace("[[", "boxes: [[")
    return text, true


def tracking_reward(source: Source) -> Answer:
    """`tracking_iou_reward`."""
    given = {"re": re, "ast": ast, "os": os, "np": np, "print": silent}
    names = ("is_valid_list_of_lists", "tracking_iou_reward")
    iou: Any = source.define("src/open_r1/grpo_tasks.py", names, given)["tracking_iou_reward"]

    def value(row: Any) -> Json:
        text, true = tracking_case(row)
        return round(float(iou([text], [{"answer": true}])[0]), 15)

    return value


def tracking_format(source: Source) -> Answer:
    """`tracking_format_reward`."""
    given = {"re": re, "ast": ast, "print": silent}
    names = ("is_valid_list_of_lists", "tracking_format_reward")
    good: Any = source.define("src/open_r1/grpo_tasks.py", names, given)["tracking_format_reward"]
    return lambda row: float(good([tracking_case(row)[0]])[0])  # type: ignore[arg-type]


def tracking_evaluation(source: Source) -> Answer:
    """`process_work_items` of the evaluation on GOT-10k."""
    names = ("is_valid_list_of_lists", "calculate_iou", "average_overlap", "process_work_items")
    run = _evaluated(
        source, "src_eval/evaluate_track.py", names, lambda row: {"answer": tracking_case(row)[1]},
        lambda row: tracking_case(row)[0],
    )  # fmt: skip

    def value(row: Json) -> Json:
        found = run(row)
        return round(found, 15) if isinstance(found, float) else found

    return value


def _evaluated(
    source: Source,
    path: str,
    names: Sequence[str],
    solution: Callable[[Any], Json],
    answer: Callable[[Any], str] = lambda row: row[0],
) -> Answer:
    """IoU of one item by the evaluation of a file, with a model that gives the row's answer."""
    said = {"text": ""}
    given = {
        "re": re,
        "np": np,
        "ast": ast,
        "os": SimpleNamespace(makedirs=unseen),
        "tqdm": Bar,
        "print": silent,
        "GQA_TEMPLATE": "[QUESTION]",
        "QUESTION_TEMPLATE": "[OBJECT]",
        "setup_model": lambda *args: (None, None),
        "inference": lambda *args, **options: said["text"],
        "append_to_jsonl": silent,
    }
    run: Any = source.define(path, names, given)["process_work_items"]

    def value(row: Json) -> Json:
        said["text"] = answer(row)
        problem = {"question": "q", "options": "o", "object": "o", "start": "s"}
        item = {"video_path": "v", "problem": problem, "solution": solution(row)}
        try:
            return float(run([item], "m", "cpu", "")[0][0])
        except ZeroDivisionError:
            return CRASH

    return value


TASKS = "src/open_r1/grpo_tasks.py"
COMPARISONS = [
    Comparison(
        "videochat_r1_spans", REPOSITORY, COMMIT, "src/open_r1/grpo_tg.py", spans,
        reward("src/open_r1/grpo_tg.py"),
    ),
    Comparison(
        "videochat_r1_spans_evaluation", REPOSITORY, COMMIT, "src_eval/evaluate_grounding.py",
        spans, evaluation("src_eval/evaluate_grounding.py"),
    ),
    Comparison("videochat_r1_intervals", REPOSITORY, COMMIT, TASKS, lists, interval_reward),
    Comparison(
        "videochat_r1_intervals_format", REPOSITORY, COMMIT, TASKS, lists,
        form(TASKS, "format_reward_gqa", ("is_valid_two_d_list_format",)),
    ),
    Comparison(
        "videochat_r1_intervals_evaluation", REPOSITORY, COMMIT, "src_eval/evaluate_gqa.py", lists,
        interval_evaluation,
    ),
    Comparison("videochat_r1_tracking", REPOSITORY, COMMIT, TASKS, tracks, tracking_reward),
    Comparison("videochat_r1_tracking_format", REPOSITORY, COMMIT, TASKS, tracks, tracking_format),
    Comparison(
        "videochat_r1_tracking_evaluation", REPOSITORY, COMMIT, "src_eval/evaluate_track.py",
        tracks, tracking_evaluation,
    ),
]  # fmt: skip
