"""Time-R1: its reward and its evaluation of one written span."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source

COMMIT = "d1a0d543889ef32340432d46a6c3b7dcd009008f"
REPOSITORY = "www-Ye/Time-R1"
CRASH = "crash"
"""The released value where the released code raises."""

KINDS = (
    "{a} to {b}",
    "{a} to {b}",
    "{a} to {b}",
    "{a} and {b}",
    "{a} TO {b}",
    "From {a} to {b} seconds.",
    "{a}s to {b}s",
    "{a} to {b} ({c}-{d} seconds long)",
    "{c} to {d}, no: {a} to {b}",
    "{a} to {b}\n",
    "{a}. to {b}.",
    "{a}  to  {b}",
    "{a} - {b}",
    "{a}, {b}",
    "box [10, 20, 30, 40]",
    "[10, 20, 30, 40], {a} to {b}",
    "-{a} to {b}",
    "{a}",
    "none",
    "",
)
AROUND = (
    "<think>a</think><answer>{x}</answer>",
    "<think>a</think><answer>{x}</answer>",
    "<think>a</think>\n<answer>{x}</answer>",
    "<think>{y}</think><answer>{x}</answer>",
    "<answer>{x}</answer>",
    "<answer>{y}</answer><answer>{x}</answer>",
    "<answer>{x}</answer><answer>{e} to",
    "<think>a</think><answer>{x}",
    "<think>{x}",
    "{x}",
    " <think>a</think><answer>{x}</answer> ",
    "<think>a</think><answer>{x}</answer> so",
)


def spans(random: random.Random) -> list[Json]:
    """Rows of [answer, true start, true end]; ties, equal instants and long numbers among them."""
    rows: list[Json] = []
    for _ in range(180):
        true = _span(random)
        text = random.choice(AROUND).format(
            x=_said(random, true), y=_said(random, _span(random)), e=random.randint(0, 30)
        )
        rows.append([text, *true])
    plain = "<think>a</think><answer>{} to {}</answer>"
    for a, b, s, e in (
        (12, 19, 15, 20), (3, 3, 3, 3), (4, 4, 3, 3), (3, 3, 1, 5), (0, 0, 0, 0), (20, 12, 15, 20),
        ("3.0000000000000004", 9, 3, 9), ("12345678901234", 7, 1, 7), ("0.12345678901234", 1, 0, 1),
        ("1.0000000000000000001", "2.5", 1, 3), (1, "9" * 30, 1, 5), ("5.", "7.", 5, 7),
        (0, 3, 0, 10), (0, 5, 0, 10), (0, 7, 0, 10), (2, 9, 0, 10), (1.1, 2.6, 1.1, 4.1),
        (0.3, 0.9, 0.3, 1.5), (10.1, 14.3, 10.1, 16.1), (5, 5, 5, 9),
    ):  # fmt: skip
        rows.append([plain.format(a, b), float(s), float(e)])
    return rows


def _span(random: random.Random) -> list[float]:
    start = random.choice((random.randint(0, 20), round(random.uniform(0, 20), 2)))
    return [float(start), float(round(start + random.choice((1, 2.5, 5, 10, 0.5)), 2))]


def _said(random: random.Random, true: Sequence[float]) -> str:
    """A span near the true one, as an answer says it."""
    a, b = (max(0.0, round(edge + random.choice((0, 0, 1, -1, 2.5)), 2)) for edge in true)
    numbers = {"a": f"{a:g}", "b": f"{b:g}", "c": f"{random.randint(2, 6)}", "d": "7"}
    return random.choice(KINDS).format(**numbers)


def silent(*said: object) -> None:
    """In place of `print`."""


def reward(path: str) -> Callable[[Source], Answer]:
    """`iou_timestamp_reward` of a file."""

    def load(source: Source) -> Answer:
        given = {"re": re, "os": os, "datetime": datetime, "print": silent}
        names = ("parse_timestamp_output", "iou_timestamp_reward")
        iou: Any = source.define(path, names, given)["iou_timestamp_reward"]

        def value(row: Any) -> Json:
            try:
                return float(iou([row[0]], [tuple(row[1:])], [60.0])[0])
            except UnboundLocalError:
                return CRASH

        return value

    return load


def form(path: str, name: str = "format_reward", further: Sequence[str] = ()) -> Any:
    """A format reward of a file, for rows whose first entry is the answer."""

    def load(source: Source) -> Answer:
        import ast

        given = {"re": re, "ast": ast, "print": silent}
        function: Any = source.define(path, (name, *further), given)[name]
        return lambda row: float(function([row[0] if isinstance(row, list) else row])[0])

    return load


class Bar:
    """In place of `tqdm.tqdm`."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def set_postfix(self, shown: object) -> None:
        """Shows nothing."""


def evaluation(path: str) -> Callable[[Source], Answer]:
    """`process_work_items` of a file, with a model that gives the row's answer.

    Values are [IoU, R1@0.3, 0.5, 0.7]; a row that raises is left out of the mean there.
    """

    def load(source: Source) -> Answer:
        said = {"text": ""}
        files = SimpleNamespace(
            path=SimpleNamespace(join=os.path.join, isfile=lambda p: True, exists=lambda p: False),
            makedirs=unseen,
        )
        given = {
            "re": re,
            "np": np,
            "os": files,
            "tqdm": Bar,
            "print": silent,
            "GROUND_TEMPLATE": "[EVENT]",
            "setup_model": lambda *args: (None, None),
            "inference": lambda *args, **options: said["text"],
            "get_checkpoint_path": lambda folder: folder,
            "save_checkpoint": silent,
            "append_to_jsonl": silent,
        }
        names = ("parse_timestamp_output", "process_work_items")
        run: Any = source.define(path, names, given)["process_work_items"]

        def value(row: Any) -> Json:
            said["text"] = row[0]
            about = {"sentences": ["it"], "timestamps": [row[1:]], "duration": 60.0}
            item = {"vid": "v", "ann": about, "sentence_idx": 0}
            try:
                ious, recall = run([item], "", "m", "cpu", "")
            except ZeroDivisionError:
                return CRASH
            return [float(ious[0]), *map(float, recall)]

        return value

    return load


def unseen(*args: object, **options: object) -> None:
    """In place of what writes files."""


COMPARISONS = [
    Comparison(
        "time_r1_reward", REPOSITORY, COMMIT, "src/open_r1/grpo_video.py", spans,
        reward("src/open_r1/grpo_video.py"),
    ),
    Comparison(
        "time_r1_format", REPOSITORY, COMMIT, "src/open_r1/grpo_video.py", spans,
        form("src/open_r1/grpo_video.py"),
    ),
    Comparison(
        "time_r1_evaluation", REPOSITORY, COMMIT, "evaluate.py", spans, evaluation("evaluate.py")
    ),
]  # fmt: skip
