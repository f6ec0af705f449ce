"""Answers that are drawn ahead of their step, in the order in which they were begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic

from vlrl.errors import DataError, EngineError
from vlrl.protocols import Drawn, Policy, T
from vlrl.train.scoring_queue import ScoringQueue
from vlrl.types import Sample


@dataclass(eq=False)  # two draws of the same prompts are not the same
class Draw(Generic[T]):
    """Groups that are drawn together, on this rank."""

    samples: list[Sample]
    places: list[int]
    """Of the samples in the training data."""
    seed: int
    key: tuple[int, int]
    """The sampler's position after them, and their place in what it gave to all ranks."""
    begun: int
    """Steps of the run that were done."""
    scoring: ScoringQueue
    result: Future[Drawn[T]] | None = None
    """None: it is still to be begun."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.result is not None and self.result.done()

    def drawn(self) -> Drawn[T]:
        """Wait for the answers; raises what drawing raised."""
        if self.result is None:
            raise ValueError("a draw that was not begun was asked for its answers")
        return self.result.result()


class Draws(Generic[T]):
    """A queue of draws; what takes from it decides whether it waits for the first or the fastest.

    `given`: in their order, so that a run can be repeated. `finished`: those that are done first;
    where `keeps_old`, draws that are `staleness` steps old are waited for, before any other.
    """

    def __init__(
        self, policy: Policy[T], group_size: int, *, order: str, staleness: int, keeps_old: bool
    ) -> None:
        self.policy, self.group_size = policy, group_size
        self.order, self.staleness, self.keeps_old = order, staleness, keeps_old
        self.queue: list[Draw[T]] = []
        self._pool = ThreadPoolExecutor(256, thread_name_prefix="drawing")

    @property
    def num_groups(self) -> int:
        """Groups that are drawn or to be drawn."""
        return sum(len(draw.samples) for draw in self.queue)

    @property
    def waiting(self) -> list[Draw[T]]:
        """Draws that are still to be begun: their answers were lost."""
        return [draw for draw in self.queue if draw.result is None]

    def begin(self, draw: Draw[T], step: int) -> None:
        """Draw in the background; raises DataError for a prompt that cannot be read."""
        work = self.policy.begin(
            draw.samples, self.group_size, draw.seed, ready=draw.scoring.begin()
        )
        draw.begun = step
        draw.result = self._pool.submit(work)

    def drop_old(self, step: int) -> int:
        """Give up answers that are above the limit of staleness; returns the number of groups."""
        if self.keeps_old:
            return 0
        old = [d for d in self.queue if step - d.begun > self.staleness]
        self.drop(old)
        return sum(len(draw.samples) for draw in old)

    def drop(self, given_up: Sequence[Draw[T]] | None = None) -> None:
        """Give up some draws; None: all."""
        dropped = list(self.queue if given_up is None else given_up)
        self.queue = [draw for draw in self.queue if draw not in dropped]
        for draw in dropped:
            draw.scoring.close()

    def take(self, num_groups: int, step: int) -> list[Draw[T]]:
        """Draws of so many groups, all done; raises the error of one that failed."""
        taken: list[Draw[T]] = []
        while sum(len(draw.samples) for draw in taken) < num_groups:
            left = [d for d in self.queue if d not in taken]
            taken.append(self._next(left, step))
        for draw in taken:
            draw.drawn()
        self.queue = [d for d in self.queue if d not in taken]
        return taken

    def _next(self, left: Sequence[Draw[T]], step: int) -> Draw[T]:
        if self.order == "given" or (self.keeps_old and step - left[0].begun >= self.staleness):
            return left[0]
        coming = [draw.result for draw in left if draw.result is not None]
        wait(coming, return_when=FIRST_COMPLETED)
        return next(draw for draw in left if draw.is_done)

    def put_back(self, taken: Sequence[Draw[T]]) -> None:
        """Draws that were not learnt from are the next again."""
        known = [draw for draw in taken if draw not in self.queue]
        self.queue = [*known, *self.queue]

    def rows(self) -> list[dict[str, Any]]:
        """Every group as a checkpoint keeps it; waits for those that are being drawn."""
        return [row for draw in self.queue for row in self._rows_of(draw)]

    def _rows_of(self, draw: Draw[T]) -> list[dict[str, Any]]:
        packed: list[Mapping[str, Any] | None] = [None] * len(draw.samples)
        if draw.result is not None:
            try:
                rollouts, trajectory = draw.drawn()
            except (EngineError, DataError):
                pass  # drawn again by the resumed run, which meets the error if it is still there
            else:
                G = self.group_size
                packed = [
                    self.policy.pack(rollouts[g * G : (g + 1) * G], trajectory.only_group(g))
                    for g in range(len(draw.samples))
                ]
        position, first = draw.key
        return [
            {
                "key": [position, first + g],
                "place": draw.places[g],
                "draw": sample.draw,
                "seed": draw.seed,
                "begun": draw.begun,
                "packed": packed[g],
            }
            for g, sample in enumerate(draw.samples)
        ]

    def load(
        self,
        rows: Sequence[Mapping[str, Any]],
        sample_at: Callable[[int, int], Sample],
        scoring: Callable[[], ScoringQueue],
    ) -> None:
        """Go on with the groups of a checkpoint; sample_at: a place in the data, its draw."""
        self.queue = []
        for row in rows:
            sample = sample_at(row["place"], row["draw"])
            position, place = row["key"]
            draw: Draw[T] = Draw(
                [sample], [row["place"]], row["seed"], (position, place), row["begun"], scoring()
            )
            if row["packed"] is not None:
                made = self.policy.unpack(sample, row["packed"])
                draw.scoring.begin()(made[0])
                draw.result = Future()
                draw.result.set_result(made)
            self.queue.append(draw)


def dealt(
    rows: Sequence[Sequence[Mapping[str, Any]]], rank: int, num_ranks: int
) -> list[Mapping[str, Any]]:
    """One rank's share of the groups that another number of ranks had queued.

    Each position's groups are cut into equal parts in their order, as the sampler deals them;
    what does not divide goes round.
    """
    positions: dict[int, list[Mapping[str, Any]]] = {}
    for row in sorted((row for own in rows for row in own), key=lambda row: tuple(row["key"])):
        positions.setdefault(row["key"][0], []).append(row)
    mine: list[Mapping[str, Any]] = []
    left: list[Mapping[str, Any]] = []
    for block in positions.values():
        each, rest = divmod(len(block), num_ranks)
        mine += block[rank * each : (rank + 1) * each]
        left += block[len(block) - rest :]
    return mine + left[rank::num_ranks]
