"""Greedy evaluation of the policy on held-out samples, sharded over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrl.distributed.comm import World, all_gather
from vlrl.protocols import Policy, Reward, Task
from vlrl.train.summary import rows_of
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
    """One greedy answer per sample -> one row each, in the order of the samples, on every rank.

    metrics: rewards that are only measured, by name. The second value is this rank's own
    rollouts, for images.
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
        rows += zip(places, rows_of(task, rollouts, metrics), strict=False)
        kept += rollouts[: len(places)]
        progress(len(places))
    merged = [pair for part in all_gather(rows, world) for pair in part]
    return [row for _, row in sorted(merged, key=lambda pair: pair[0])], kept
