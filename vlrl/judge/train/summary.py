"""What the evaluation of a judge in training comes to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlrl.data.json_file import whole_lines
from vlrl.judge.agreement import Judgement, correct, order_consistency


def summary(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Accuracy, by kind too, and how far verdicts depend on the order."""
    groups: dict[str, list[float]] = {}
    for one in judgements:
        value = correct(one)
        if value is not None:
            groups.setdefault("accuracy", []).append(value)
            if "kind" in one.labels:
                groups.setdefault(f"accuracy_{one.labels['kind']}", []).append(value)
    metrics = {name: sum(values) / len(values) for name, values in sorted(groups.items())}
    consistency = order_consistency(judgements)
    return {**metrics, **({"consistent": consistency["consistent"]} if consistency else {})}


def has_summary(folder: Path, step: int, names: Iterable[str]) -> bool:
    """Whether a run's metrics.jsonl holds the evaluation of a step on any of these sets."""
    file = folder / "metrics.jsonl"
    if not file.is_file():
        return False
    rows = [json.loads(line) for line in whole_lines(file)]
    keys = {key for row in rows if row["step"] == step for key in row}
    return any(key.startswith(f"{name}/") for key in keys for name in names)
