"""Evaluation of what is generated, pictures or shapes: answers, figures overall and by group."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vlrl.measure.stats import bootstrap_mean
from vlrl.protocols import Policy, Reward, Task
from vlrl.rollout.scoring import measured
from vlrl.types import Rollout, Sample


def answers(
    policy: Policy, task: Task, samples: Sequence[Sample], *, batch_size: int, seed: int | None
) -> list[Rollout]:
    """One parsed answer a sample; greedy where there is no seed."""
    found: list[Rollout] = []
    policy.prepare(samples)
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        rollouts, _ = policy.sample(part, 1, seed=seed or 0, greedy=seed is None)
        for rollout in rollouts:
            rollout.parsed = task.parse(rollout.sample, rollout.output)
        found += rollouts
    return found


def figures(
    task: Task, rollouts: Sequence[Rollout], metrics: Mapping[str, Reward], num_bootstrap: int
) -> dict[str, Any]:
    """Means with intervals, overall and by the task's groups (MME-3DR's categories, say).

    `samples` has every sample's own figures, None where one does not apply.
    """
    columns = {**task.metrics(rollouts), **measured(metrics, rollouts)}
    groups: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for name, column in columns.items():
        for rollout, value in zip(rollouts, column, strict=True):
            if not math.isnan(value):
                for key, group in task.strata(rollout.sample).items():
                    groups[key][group][name].append(value)
    kept = {name: [v for v in column if not math.isnan(v)] for name, column in columns.items()}
    return {
        "num_samples": len(rollouts),
        "overall": {n: bootstrap_mean(v, num_bootstrap) for n, v in kept.items() if v},
        "groups": {
            key: {
                group: {n: {"mean": math.fsum(v) / len(v), "num": len(v)} for n, v in named.items()}
                for group, named in sorted(found.items())
            }
            for key, found in sorted(groups.items())
        },
        "samples": [
            {
                "id": rollout.sample.id,
                "metrics": {
                    name: None if math.isnan(column[i]) else column[i]
                    for name, column in columns.items()
                },
            }
            for i, rollout in enumerate(rollouts)
        ],
    }
