"""UnifiedReward-Think: its readers of a written verdict, in training and evaluation."""

from __future__ import annotations

import random
import re
from typing import Any

from released.comparison import Answer, Comparison, Json
from released.source import Source

COMMIT = "ff6f520247a2d36e2aff7b2ba53a935afd437f66"
REPOSITORY = "CodeGoat24/UnifiedReward"
FILE = "UnifiedReward-Think/src/open_r1/grpo.py"

VERDICTS = (
    "Image {n} is better",
    "Image {n} is better",
    "Image {n} is better",
    " Image {n} is better\n",
    "image {n} is better",
    "Image {n} is better.",
    "Video {n} is better",
    "Answer {n} is better",
    "Image {n} is better, clearly",
    "Image 3 is better",
    "Both are equal",
    "",
)
PARTS = (
    "<think>why</think><answer>{x}</answer>",
    "<think>why</think><answer>{x}</answer>",
    "<think>why</think>\n\n<answer>{x}</answer>",
    " <think>why</think><answer>{x}</answer>",
    "<think></think><answer>{x}</answer>",
    "<think>why</think><answer>{x}</answer> so",
    "<think>why</think><answer>{y}</answer><answer>{x}</answer>",
    "<think>why</think> and <answer>{x}</answer>",
    "<answer>{x}</answer>",
    "<think>why</think>{x}",
    "<think>why</think><answer>{x}",
    "{x}",
)


def verdicts(random: random.Random) -> list[Json]:
    """Rows of [text, the right verdict]."""
    rows: list[Json] = []
    for _ in range(220):
        right = random.choice((1, 2))
        said, other = (
            random.choice(VERDICTS).format(n=random.choice((right, right, 3 - right)))
            for _ in range(2)
        )
        text = random.choice(PARTS).format(x=said, y=other)
        rows.append([text, right])
    return rows


def accuracy(source: Source) -> Answer:
    """`accuracy_reward`."""
    names = ("extract_answer", "accuracy_reward")
    right: Any = source.define(FILE, names, {"re": re})["accuracy_reward"]

    def value(row: Any) -> Json:
        return float(right([[{"content": row[0]}]], [f"Image {row[1]} is better"])[0])

    return value


def form(source: Source) -> Answer:
    """`format_reward`."""
    good: Any = source.define(FILE, ["format_reward"], {"re": re})["format_reward"]
    return lambda row: float(good([[{"content": row[0]}]])[0])  # type: ignore[index]


COMPARISONS = [
    Comparison("unified_reward_accuracy", REPOSITORY, COMMIT, FILE, verdicts, accuracy),
    Comparison("unified_reward_format", REPOSITORY, COMMIT, FILE, verdicts, form),
]
