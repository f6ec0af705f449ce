"""What the evaluation of a judge in training comes to."""

from __future__ import annotations

from collections.abc import Sequence

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
