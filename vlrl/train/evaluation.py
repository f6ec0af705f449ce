"""Greedy evaluation of the policy on held-out samples, sharded over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrl.distributed.comm import World, all_gather
from vlrl.errors import DataError
from vlrl.protocols import Policy, Reward, Task
from vlrl.train.failures import on_all
from vlrl.train.summary import rows_of
from vlrl.train.unreadable import Unreadable
from vlrl.types import Rollout, Sample


def evaluate(
    policy: Policy,
    task: Task,
    samples: Sequence[Sample],
    world: World,
    batch_size: int,
    metrics: Mapping[str, Reward],
    progress: Callable[[int], None] = lambda done: None,
    unreadable: Unreadable[Sample] | None = None,
) -> tuple[list[dict[str, Any]], list[Rollout]]:
    """One greedy answer per sample -> one row each, in the order of the samples, on every rank.

    metrics: rewards that are only measured, by name. The second value is this rank's own
    rollouts, for images.

    unreadable: leaves samples out that cannot be read; None = they raise DataError.
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
        coming = mine[(number + 1) * batch_size : (number + 2) * batch_size]
        policy.expect([*batch, *(samples[i] for i in coming)])
        rollouts = _answers(policy, batch, samples, world, unreadable)
        for rollout in rollouts:
            rollout.parsed = task.parse(rollout.sample, rollout.output)
        answered = rows_of(task, rollouts, metrics)
        own = {samples[i].id: i for i in places}
        for rollout, row in zip(rollouts, answered, strict=True):
            if rollout.sample.id in own:
                rows.append((own[rollout.sample.id], row))
                kept.append(rollout)
        progress(len(places))
    merged = [pair for part in all_gather(rows, world) for pair in part]
    return [row for _, row in sorted(merged, key=lambda pair: pair[0])], kept


def _answers(
    policy: Policy,
    batch: Sequence[Sample],
    samples: Sequence[Sample],
    world: World,
    unreadable: Unreadable[Sample] | None,
) -> list[Rollout]:
    """Greedy answers to the samples of a batch that can be read; all ranks call this.

    Where none can, the answer to another one of `samples`.
    """
    if unreadable is None:
        return policy.sample(batch, 1, seed=0, greedy=True)[0]
    while True:
        left = [sample for sample in batch if sample.id not in unreadable.reasons]

        def sampled(asked: Sequence[Sample] = left) -> list[Rollout]:
            asked = asked or [unreadable.first_readable(samples)]
            return policy.sample(asked, 1, seed=0, greedy=True)[0]

        try:
            return on_all(sampled, world)
        except DataError:
            # Again on every rank: under ZeRO-3 sampling gathers the weights from all of them.
            if not unreadable.find(left):
                raise
