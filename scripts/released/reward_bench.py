"""RewardBench 1 and 2: a best answer among several, sections, and the "Ties" subset."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from released.comparison import Answer, Comparison, Json
from released.source import Source

COMMIT = "05a9005efb607249822c193590c8ecab87c77052"
REPOSITORY = "allenai/reward-bench"
FILE = "rewardbench/utils.py"


def candidates(random: random.Random) -> list[Json]:
    """Rows of the scores of four answers, the right one first; many of them equal."""
    rows: list[Json] = [[0.3, 0.1 + 0.2, 0.1, 0.0], [1.0, 1.0, 1.0, 1.0]]
    for _ in range(208):
        rows.append([random.choice((-1.5, 0.0, 0.5, 0.5, 2.0)) for _ in range(4)])
    return rows


class Table:
    """In place of `datasets.Dataset`, as far as the functions use it."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        self.column_names = list(frame.columns)

    @classmethod
    def from_pandas(cls, frame: Any) -> Table:
        """A table from its data frame."""
        return cls(frame)

    def to_pandas(self) -> Any:
        """The data frame."""
        return self.frame

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.frame.to_dict("records"))

    def __len__(self) -> int:
        return len(self.frame)

    def remove_columns(self, names: list[str]) -> Table:
        """Without these columns."""
        return Table(self.frame.drop(columns=names))

    def add_column(self, name: str, values: list[Any]) -> Table:
        """With one more."""
        return Table(self.frame.assign(**{name: values}))


def best_of(source: Source) -> Answer:
    """`reroll_and_score_dataset`: the result of one prompt."""
    given = {"np": np, "pd": pd, "Dataset": Table}
    function: Any = source.define(FILE, ["reroll_and_score_dataset"], given)
    score = function["reroll_and_score_dataset"]

    def value(row: Any) -> Json:
        frame = pd.DataFrame({"text": ["a"] * len(row), "scores": row, "id": ["i"] * len(row)})
        (result,) = score(Table(frame), [len(row)]).to_pandas()["results"]
        return float(result)

    return value


def prompts(random: random.Random) -> list[Json]:
    """Rows of [scores of right answers, of wrong ones, of the twin's right one, of its wrong ones],
    for one to three prompts; whole numbers, so that margins are often equal."""
    rows: list[Json] = []
    for _ in range(205):
        sets: list[Json] = []
        for _ in range(random.choice((1, 1, 2, 3))):
            least, num = random.choice((4, 6, 7)), random.choice((2, 3, 4))
            sets.append(
                [
                    [float(least + random.choice((0, 0, 1, 2))) for _ in range(num)],
                    [float(random.randint(0, 5)) for _ in range(random.randint(1, 4))],
                    float(random.randint(3, 9)),
                    [float(random.randint(0, 5)) for _ in range(random.randint(1, 3))],
                ]
            )  # fmt: skip
        rows.append(sets)
    return rows


def ties(source: Source) -> Answer:
    """`process_single_model`: the score of a subset."""
    given: dict[str, Any] = {"np": np, "defaultdict": defaultdict}
    for name in ("List", "Tuple", "Dict"):
        given[name] = {"List": list, "Tuple": tuple, "Dict": dict}[name]
    given["Dataset"] = Table
    names = ("_compute_prompt_stats", "process_single_model")
    score: Any = source.define(FILE, names, given)["process_single_model"]

    def value(row: Any) -> Json:
        rows = []
        for number, (right, wrong, ref, ref_wrong) in enumerate(row):
            rows.append([f"tied:{number}", [*right, *wrong], len(right)])
            rows.append([f"ref:{number}", [ref, *ref_wrong], 1])
        frame = pd.DataFrame(rows, columns=["id", "scores", "num_correct"])
        with np.errstate(all="ignore"):
            return round(float(score(Table(frame))[1]), 12)

    return value


def subsets(random: random.Random) -> list[Json]:
    """Rows of accuracy by subset; some subsets are missing."""
    from vlrl.judge.reward_bench import SECTIONS

    names = [name for section in SECTIONS.values() for name in section]
    rows: list[Json] = []
    for _ in range(200):
        few = random.sample(names, random.choice((1, 2, 4)))
        row: dict[str, Json] = {name: round(random.random(), 3) for name in few}
        rows.append(row)
    return rows


def sections(source: Source) -> Answer:
    """`calculate_scores_per_section`: sections with a subset."""
    function: Any = source.define(FILE, ["calculate_scores_per_section"])
    tables = source.define("rewardbench/constants.py", ["EXAMPLE_COUNTS", "SUBSET_MAPPING"])
    counts, mapping = tables["EXAMPLE_COUNTS"], tables["SUBSET_MAPPING"]

    def value(row: Any) -> Json:
        found = function["calculate_scores_per_section"](counts, mapping, row)
        assert isinstance(mapping, dict)
        known = [name for name, own in mapping.items() if any(subset in row for subset in own)]
        return {name: round(found[name], 12) for name in known}

    return value


COMPARISONS = [
    Comparison("reward_bench_best_of", REPOSITORY, COMMIT, FILE, candidates, best_of),
    Comparison("reward_bench_ties", REPOSITORY, COMMIT, FILE, prompts, ties),
    Comparison("reward_bench_sections", REPOSITORY, COMMIT, FILE, subsets, sections),
]
