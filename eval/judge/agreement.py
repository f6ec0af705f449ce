"""How often a judge agrees with people, on preference benchmarks; and judgements made elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from vlrl.data.json_file import read_json_rows
from vlrl.errors import DataError
from vlrl.eval.results import grid
from vlrl.judge.agreement import (
    Judgement,
    TiedTop,
    calibration,
    correct,
    one_against_many,
    order_consistency,
    pairwise_accuracy,
    tie_accuracy,
)
from vlrl.judge.data.preference import Preference
from vlrl.judge.reward_bench import TIES, section_scores, tied_prompts, ties_score
from vlrl.judge.verdicts import labels_of, truth_of

WORDS = {"first": 1.0, "1": 1.0, "a": 1.0, "second": 0.0, "2": 0.0, "b": 0.0, "tie": 0.5}


def read_judgements(path: Path, pairs: Sequence[Preference]) -> list[Judgement]:
    """Judgements made elsewhere for these pairs, from JSON lines; DataError names the line.

    A line has `id` and one of: `p`, that the first of the pair as the file has it is better;
    `verdict`, first, second or tie (also 1 and 2, A and B); `scores`, two numbers, also beside `p`.
    `p_swapped` is the answer with the two swapped: that the one then in first place is better. A
    pair without a line is an error.
    """
    found: dict[str, tuple[float, float | None, tuple[float, float] | None]] = {}
    for number, row in enumerate(read_json_rows(path), start=1):
        where = f"{path}, line {number}"
        if not isinstance(row, Mapping) or "id" not in row:
            raise DataError(f"{where}: needs `id`")
        own = str(row["id"])
        if own in found:
            raise DataError(f"{where}: id {own!r} appears twice")
        swapped = row.get("p_swapped")
        found[own] = (
            _p_of(row, where),
            None if swapped is None else _share(swapped, where),
            None if row.get("scores") is None else _scores(row["scores"], where),
        )
    lacking = [pair.id for pair in pairs if pair.id not in found]
    if lacking:
        raise DataError(
            f"{path}: {len(lacking)} pairs have no judgement, the first: {lacking[0]!r}"
        )
    judgements = []
    for pair in pairs:
        p, swapped, scores = found[pair.id]
        second = None if swapped is None else 1 - swapped
        joint = p if second is None else 0.5 * (p + second)
        first = None if second is None else p
        judgements.append(
            Judgement(
                pair.id,
                truth_of(pair),
                joint,
                first,
                second,
                None,
                labels_of(pair),
                pair.group,
                scores,
            )
        )
    return judgements


def _p_of(row: Mapping[str, Any], where: str) -> float:
    given = [key for key in ("p", "verdict", "scores") if row.get(key) is not None]
    if given == ["p", "scores"]:
        given = ["p"]
    if len(given) != 1:
        raise DataError(f"{where}: needs exactly one of p, verdict, scores; it has {given}")
    value = row[given[0]]
    if given[0] == "p":
        return _share(value, where)
    if given[0] == "verdict":
        if str(value).lower() not in WORDS:
            raise DataError(
                f"{where}: field 'verdict' must be one of {sorted(WORDS)}, not {value!r}"
            )
        return WORDS[str(value).lower()]
    first, second = _scores(value, where)
    return 0.5 if first == second else float(first > second)


def _scores(value: object, where: str) -> tuple[float, float]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
        or not all(abs(x) < math.inf for x in value)
    ):
        raise DataError(f"{where}: field 'scores' must be two finite numbers, not {value!r}")
    return value[0], value[1]


def _share(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"{where}: a probability must lie in [0, 1], not {value!r}")
    return float(value)


def summarise(judgements: Sequence[Judgement], *, reward_bench: bool = False) -> dict[str, Any]:
    """All metrics, over everything and by each label.

    reward_bench: by RewardBench's rules for ties, with its sections and its score of "Ties".
    """
    own_metrics = reward_bench_metrics if reward_bench else metrics
    summary: dict[str, Any] = {"all": own_metrics(judgements)}
    for label in sorted({name for one in judgements for name in one.labels}):
        groups: dict[str, list[Judgement]] = {}
        for one in judgements:
            if label in one.labels:
                groups.setdefault(one.labels[label], []).append(one)
        summary[label] = {name: own_metrics(own) for name, own in sorted(groups.items())}
    return summary


def reward_bench_metrics(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """The metrics by RewardBench's rules: equal scores are wrong, a shared first place counts 1/k.

    "Ties" has a score of its own and is not in `one_against_many`.
    """
    found = metrics(judgements, equal_scores=0.0, tied_top="shared")
    accuracy: dict[str, list[float]] = {}
    for one in judgements:
        right = correct(one, equal_scores=0.0)
        if right is not None:
            accuracy.setdefault(one.labels.get("kind", ""), []).append(right)
    sections = section_scores({subset: fmean(own) for subset, own in accuracy.items()})
    apart = {"sections": sections, "ties_subset": ties_score(tied_prompts(judgements))}
    return found | {name: value for name, value in apart.items() if value}


def metrics(
    judgements: Sequence[Judgement], *, equal_scores: float = 0.5, tied_top: TiedTop = "lost"
) -> dict[str, Any]:
    """The metrics of some judgements; what does not apply is left out."""
    masses = [one.mass for one in judgements if one.mass is not None]
    found: dict[str, Any] = {
        "num": len(judgements),
        "num_ties": sum(one.truth == 0.5 for one in judgements),
        "accuracy": pairwise_accuracy(judgements, equal_scores=equal_scores),
        "accuracy_with_ties": tie_accuracy(judgements),
        "order": order_consistency(judgements),
        "calibration": calibration(judgements),
        "one_against_many": one_against_many(
            [one for one in judgements if one.labels.get("kind", "").lower() != TIES]
            if tied_top == "shared"
            else judgements,
            tied_top=tied_top,
        ),
    }
    if masses:
        found["yes_no_mass"] = sum(masses) / len(masses)
    return {name: value for name, value in found.items() if value != {}}


def markdown(summary: Mapping[str, Any], title: str) -> str:
    """The metrics as a table, one row per group."""
    rows = [_row("all", summary["all"])]
    for label, groups in summary.items():
        if label != "all":
            rows += [_row(f"{label}: {name}", own) for name, own in groups.items()]
    head = ["", "pairs", "accuracy", "with ties", "consistent", "first place", "ECE", "1 of many"]
    text = f"# {title}\n\n{grid(head, rows, num_left=1)}\n"
    sections, ties = summary["all"].get("sections"), summary["all"].get("ties_subset")
    if sections:
        listed = ", ".join(f"{name} {100 * value:.1f}" for name, value in sections.items())
        text += f"\nRewardBench's sections: {listed}.\n"
    if ties:
        text += f'\nRewardBench 2\'s score of "Ties": {100 * ties["score"]:.1f}.\n'
    return text


def _row(name: str, own: Mapping[str, Any]) -> list[str]:
    accuracy = own.get("accuracy")
    shown = "" if accuracy is None else _interval(accuracy)
    ties = own.get("accuracy_with_ties")
    order, many = own.get("order"), own.get("one_against_many")
    error = own.get("calibration")
    return [
        name,
        str(own["num"]),
        shown,
        "" if ties is None else f"{100 * ties['mean']:.1f}",
        "" if order is None else f"{100 * order['consistent']:.1f}",
        "" if order is None else f"{order['first_place']:+.3f}",
        "" if error is None else f"{error['ece']:.3f}",
        "" if many is None else f"{_interval(many['accuracy'])}, MRR {many['mrr']['mean']:.3f}",
    ]


def _interval(one: Mapping[str, float]) -> str:
    return f"{100 * one['mean']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def lines_of(judgements: Iterable[Judgement]) -> Iterator[dict[str, Any]]:
    """The rows of judgements.jsonl, as `read_judgements` reads them."""
    for one in judgements:
        row: dict[str, Any] = {"id": one.id, "p": one.p, "truth": one.truth}
        if one.first_order is not None and one.second_order is not None:
            row |= {"p": one.first_order, "p_swapped": 1 - one.second_order}
        if one.scores is not None:
            row["scores"] = list(one.scores)
        if one.mass is not None:
            row["mass"] = one.mass
        yield {**row, "labels": dict(one.labels)}
