"""Asks a model about the items of a benchmark: batched, sharded over ranks, resumable.

items -> those not yet answered -> this rank's share -> batches
      -> rounds of asks (one, or more with zoom) -> Store -> all ranks' answers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrl.distributed.comm import World, barrier
from vlrl.eval.gui.asking import Model
from vlrl.eval.gui.items import Item
from vlrl.eval.gui.passes import failure, load, not_asked, to_row
from vlrl.eval.gui.scoring import verdict_of
from vlrl.eval.gui.strategies import Pass, Reading, Strategy
from vlrl.eval.store import Store
from vlrl.gui.verdict import Outcome

Progress = Callable[[int, float], None]
"""Called after each batch: how many items are done, and the share of hits so far."""


@dataclass(frozen=True)
class Job:
    """What a run asks, and how replies are read."""

    items: Sequence[Item]
    strategy: Strategy
    reading: Reading
    batch_size: int


def ask_all(
    job: Job,
    model: Model,
    store: Store,
    settings: Mapping[str, Any],
    world: World,
    start: Callable[[int, int], Progress] = lambda total, done: lambda count, rate: None,
) -> dict[str, list[Pass]]:
    """The passes of every item, on every rank; `start` gets this rank's total and number done.

    Items with a failed call are in the result with their error.
    """
    if world.is_main:
        store.open(settings)
        store.drop_cut_lines()
    barrier(world)
    by_id = {item.id: item for item in job.items}
    known = {own: p for own, p in load(store, by_id).items() if failure(p) is None}
    open_items = [item for item in job.items if item.id not in known]
    mine = open_items[world.rank :: world.size]
    barrier(world)  # nobody appends before all have read
    progress = start(len(mine) + len(known), len(known))
    hits = sum(_is_hit(by_id[own], passes, job) for own, passes in known.items())
    done = len(known)
    for first in range(0, len(mine), job.batch_size):
        batch = mine[first : first + job.batch_size]
        answered = ask_batch(batch, job, model)
        store.append(to_row(item, answered[item.id]) for item in batch)
        hits += sum(_is_hit(item, answered[item.id], job) for item in batch)
        done += len(batch)
        progress(len(batch), hits / done)
    barrier(world)
    return load(store, by_id)


def ask_batch(batch: Sequence[Item], job: Job, model: Model) -> dict[str, list[Pass]]:
    """All rounds of a batch; an item whose call failed is not asked further."""
    passes: dict[str, list[Pass]] = {
        item.id: [] if item.problem is None else [not_asked(item)] for item in batch
    }
    for _ in range(job.strategy.num_rounds):
        asks = [
            ask
            for item in batch
            if failure(passes[item.id]) is None
            for ask in job.strategy.asks(item, passes[item.id], job.reading)
        ]
        if not asks:
            break
        for ask, reply in zip(asks, model.answer(asks), strict=True):
            passes[ask.item.id].append(Pass(ask, reply))
    return passes


def _is_hit(item: Item, passes: Sequence[Pass], job: Job) -> bool:
    return verdict_of(item, passes, job.strategy, job.reading)[0].outcome is Outcome.CORRECT
