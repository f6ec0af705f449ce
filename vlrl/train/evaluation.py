"""Greedy evaluation of the policy on held-out samples, sharded over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vlrl.config.schema import RunConfig
from vlrl.distributed.comm import World, all_gather
from vlrl.errors import DataError, writing
from vlrl.log.console import StepConsole
from vlrl.protocols import Policy, Reward, Task
from vlrl.stats import evenly
from vlrl.train.evaluation_files import write_evaluation
from vlrl.train.failures import on_all
from vlrl.train.summary import rows_of, summarise
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
        rollouts = answers(policy, batch, samples, world, unreadable)
        for rollout in rollouts:
            rollout.parsed = task.parse(rollout.sample, rollout.output)
        answered = on_all(partial(rows_of, task, rollouts, metrics), world)
        own = {samples[i].id: i for i in places}
        for rollout, row in zip(rollouts, answered, strict=True):
            if rollout.sample.id in own:
                rows.append((own[rollout.sample.id], row))
                kept.append(rollout)
        progress(len(places))
    merged = [pair for part in all_gather(rows, world) for pair in part]
    return [row for _, row in sorted(merged, key=lambda pair: pair[0])], kept


@dataclass(frozen=True)
class HeldOut:
    """The held-out splits of a run, and where their evaluations are written."""

    config: RunConfig
    task: Task
    metrics: Mapping[str, Reward]
    folder: Path
    world: World
    unreadable: Unreadable[Sample]

    def evaluate(
        self, policy: Policy, label: str, after_batch: Callable[[], None] | None = None
    ) -> None:
        """Every split, written to `evaluations/<label>/`; all ranks call this.

        after_batch: called by all ranks together; what it raises ends the evaluation.
        """
        options, log = self.config.eval, self.config.log
        for split in options.splits:
            samples = evenly(self.task.samples(split), options.limit)
            mine = -(-len(samples) // self.world.size)
            title, show = f"evaluating {split} ({label})", self.world.is_main and log.console
            with StepConsole(title, mine, 0, show=show, quiet=log.quiet) as console:

                def advance(done: int, console: StepConsole = console) -> None:
                    console.advance(done)
                    if after_batch is not None:
                        after_batch()

                rows, rollouts = evaluate(
                    policy,
                    self.task,
                    samples,
                    self.world,
                    options.batch_size,
                    self.metrics,
                    advance,
                    self.unreadable if self.task.skips_unreadable(split) else None,
                )
            if self.world.is_main:
                summary = summarise(rows, options.num_bootstrap)
                folder = self.folder / "evaluations" / label
                with writing(folder):
                    write_evaluation(folder, split, rows, summary, self.task, rollouts)


def answers(
    policy: Policy,
    batch: Sequence[Sample],
    samples: Sequence[Sample],
    world: World,
    unreadable: Unreadable[Sample] | None,
    *,
    num_each: int = 1,
    seed: int | None = None,
) -> list[Rollout]:
    """Answers to the samples of a batch that can be read, greedy without a seed; all ranks call
    this. Where none can be read, to another one of `samples`.
    """
    sample = partial(policy.sample, num_each=num_each, seed=seed or 0, greedy=seed is None)
    if unreadable is None:
        return on_all(partial(sample, batch), world)[0]
    while True:
        left = [one for one in batch if one.id not in unreadable.reasons]

        def sampled(asked: Sequence[Sample] = left) -> list[Rollout]:
            return sample(asked or [unreadable.first_readable(samples)])[0]

        try:
            return on_all(sampled, world)
        except DataError:
            # Again on every rank: under ZeRO-3 sampling gathers the weights from all of them.
            if not unreadable.find(left):
                raise
