"""RewardMATH: one right solution against many wrong ones."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source
from released.time_r1 import unseen

COMMIT = "cde06ab3f5466e1f94e74ba4fadf0e6561434ecb"
REPOSITORY = "kimsh0507/RewardMATH_official"
FILE = "src/evaluation/eval.py"


def solutions(random: random.Random) -> list[Json]:
    """Rows of scores, the right solution first; many of them equal."""
    return [
        [random.choice((-1.0, 0.0, 0.25, 0.5, 2.0)) for _ in range(random.randint(2, 10))]
        for _ in range(210)
    ]


def one_against_many(source: Source) -> Answer:
    """[accuracy, reciprocal rank] of one problem."""
    names = ("BaseEvaluation", "RewardMATHEvaluation")
    given = {"np": np, "ABC": ABC, "abstractmethod": abstractmethod, "print": unseen}
    evaluate: Any = source.define(FILE, names, given)["RewardMATHEvaluation"]

    def value(row: Any) -> Json:
        sources = ["human_to_GPT-4", *["model"] * (len(row) - 1)]
        problem = {"problem": "p", "solution_reference": sources, "score": row}
        found = evaluate([problem], ["normal"]).get_results()["normal"]
        return [float(found["reward Acc"][0]), round(float(found["reward MRR"][0]), 12)]

    return value


COMPARISONS = [Comparison("reward_math", REPOSITORY, COMMIT, FILE, solutions, one_against_many)]
