"""Greedy evaluation of the policy on held-out samples, sharded over ranks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrl.dist.comm import World, all_gather
from vlrl.measure.stats import bootstrap_mean
from vlrl.protocols import Policy, Reward, Task
from vlrl.rollout.scoring import measured
from vlrl.types import Rollout, Sample


def evaluate(
    policy: Policy,
    task: Task,
    samples: Sequence[Sample],
    world: World,
    batch_size: int,
    metrics: Mapping[str, Reward],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[dict[str, Any]], list[Rollout]]:
    """One greedy answer a sample -> a row each, in the order of the samples, on every rank.

    metrics: rewards that are only measured, by name. The second value is this rank's own
    rollouts, for pictures.
    """
    # Alike on every rank: under ZeRO-3 each batch gathers the weights from all ranks.
    num_batches = math.ceil(math.ceil(len(samples) / world.size) / batch_size)
    mine = list(range(world.rank, len(samples), world.size))
    rows: list[tuple[int, dict[str, Any]]] = []
    kept: list[Rollout] = []
    for number in range(num_batches):
        places = mine[number * batch_size : (number + 1) * batch_size]
        # A rank that has run out answers its last sample again and throws the answer away.
        batch = [samples[i] for i in places] or [samples[mine[-1] if mine else 0]]
        rollouts, _ = policy.sample(batch, 1, seed=0, greedy=True)
        for rollout in rollouts:
            rollout.parsed = task.parse(rollout.sample, rollout.output)
        figures = {**task.metrics(rollouts), **measured(metrics, rollouts)}
        for i, place in enumerate(places):
            values = {name: float(column[i]) for name, column in figures.items()}
            rows.append((place, _row(task, rollouts[i], values)))
            kept.append(rollouts[i])
        progress(len(places))
    merged = [pair for part in all_gather(rows, world) for pair in part]
    return [row for _, row in sorted(merged, key=lambda pair: pair[0])], kept


def _row(task: Task, rollout: Rollout, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "id": rollout.sample.id,
        "output": rollout.output if isinstance(rollout.output, str) else None,
        "finish": rollout.finish.value,
        "metrics": {name: None if math.isnan(v) else v for name, v in values.items()},
        "strata": dict(task.strata(rollout.sample)),
    }


def summarise(rows: Sequence[Mapping[str, Any]], num_bootstrap: int) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals, overall and by stratum; the counts stand beside."""
    columns: dict[str, list[float]] = defaultdict(list)
    strata: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        for name, value in row["metrics"].items():
            if value is None:
                continue
            columns[name].append(value)
            for key, group in row["strata"].items():
                strata[key][group][name].append(value)
    return {
        "num_samples": len(rows),
        "overall": {
            name: bootstrap_mean(values, num_bootstrap) for name, values in columns.items()
        },
        "strata": {
            key: {
                group: {
                    name: {"mean": sum(values) / len(values), "num": len(values)}
                    for name, values in named.items()
                }
                for group, named in sorted(groups.items())
            }
            for key, groups in sorted(strata.items())
        },
    }
