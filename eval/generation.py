"""Evaluation of what is generated, images or shapes: answers, metrics overall and by stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlrl.protocols import Policy, Reward, Task
from vlrl.train.summary import rows_of, summarise
from vlrl.types import Rollout, Sample


def answers(
    policy: Policy, task: Task, samples: Sequence[Sample], *, batch_size: int, seed: int | None
) -> list[Rollout]:
    """One parsed answer per sample; greedy where there is no seed."""
    found: list[Rollout] = []
    policy.prepare(samples)
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        rollouts, _ = policy.sample(part, 1, seed=seed or 0, greedy=seed is None)
        for rollout in rollouts:
            rollout.parsed = task.parse(rollout.sample, rollout.output)
        found += rollouts
    return found


def summary_of(
    task: Task, rollouts: Sequence[Rollout], metrics: Mapping[str, Reward], num_bootstrap: int
) -> dict[str, Any]:
    """Means with intervals, overall and by stratum (MME-3DR's categories, say).

    `samples` has every sample's own row.
    """
    rows = rows_of(task, rollouts, metrics)
    return {**summarise(rows, num_bootstrap), "samples": rows}
