"""Reference rewards `from: policy`: what the policy of the start gets for its own answers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vlrl.distributed.comm import all_gather
from vlrl.distributed.waiting import waiting
from vlrl.protocols import Reward
from vlrl.reward.combinators.shape import RememberingShape
from vlrl.reward.combinators.stages import Stage, Stages, at_stage
from vlrl.reward.tree import score
from vlrl.seeds import row_seed
from vlrl.train.evaluation import answers
from vlrl.train.failures import on_all
from vlrl.types import Rollout

if TYPE_CHECKING:
    from vlrl.train.trainer import Trainer

Seen = tuple[RememberingShape, tuple[tuple[int, int], ...]]
"""A node, and the stages that nodes above it look at: index and number of each, top first."""


def draw_references(trainer: Trainer[Any]) -> None:
    """Sample answers to every prompt once and give their rewards to the nodes that compare with
    them; all ranks call this, before the first step. Nothing is sampled where no node asks.
    """
    rewards = {id(stage.reward): stage.reward for stage in trainer.curriculum.stages}
    asking = [one for reward in rewards.values() for one in _asking(reward, ())]
    if not asking:
        return
    policy, task, world, samples = (
        trainer.policy,
        trainer.task,
        trainer.world,
        trainer.drawing.samples,
    )
    batch_size = trainer.config.eval.batch_size
    # Rows have random numbers of their own by the sample's name, so one seed serves all batches.
    seed = row_seed(trainer.config.seed, "reference", 0)
    skips = task.skips_unreadable(trainer.config.train_split)
    unreadable = trainer.drawing.unreadable if skips else None
    num_each = max(node.num_references for node, _ in asking)
    mine = samples[world.rank :: world.size]
    # Alike on every rank: under ZeRO-3 each batch gathers the weights from all ranks.
    num_batches = math.ceil(math.ceil(len(samples) / world.size) / batch_size)
    found: list[dict[str, list[float]]] = [defaultdict(list) for _ in asking]
    with waiting("the references"):
        for number in range(num_batches):
            batch = mine[number * batch_size : (number + 1) * batch_size]
            asked = batch or samples[:1]
            policy.expect(asked)
            rollouts = answers(
                policy, asked, samples, world, unreadable, num_each=num_each, seed=seed
            )
            for rollout in rollouts if batch else ():
                rollout.parsed = task.parse(rollout.sample, rollout.output)
            kept = rollouts if batch else []
            values = on_all(partial(_columns, kept, asking), world)
            for known, column in zip(found, values, strict=True):
                for rollout, value in zip(kept, column, strict=True):
                    if value is not None:
                        known[rollout.sample.id].append(value)
    for (node, _), known in zip(asking, found, strict=True):
        parts = all_gather(dict(known), world)
        node.of_policy = {
            name: tuple(values) for part in parts for name, values in sorted(part.items())
        }


def _columns(rollouts: Sequence[Rollout], asking: Sequence[Seen]) -> list[list[float | None]]:
    """One column for each node that asks."""
    return [_values(rollouts, one) for one in asking]


def _values(rollouts: Sequence[Rollout], asking: Seen) -> list[float | None]:
    """What the node would shape, for each answer."""
    node, stages = asking
    seen = list(rollouts)
    for index, num_stages in stages:
        seen = at_stage(seen, index, num_stages)
    return [one.value for one in score(node.of, seen)]


def _asking(node: Reward, stages: tuple[tuple[int, int], ...]) -> Iterator[Seen]:
    """The nodes that compare with the policy's own answers."""
    if isinstance(node, RememberingShape) and node.compared_with == "policy":
        yield node, stages
    for place, child in enumerate(node.children):
        own = stages
        if isinstance(node, Stages):
            own = (*stages, (place, node.num_stages))
        elif isinstance(node, Stage):
            own = (*stages, (node.index, node.index + 1))
        yield from _asking(child, own)
