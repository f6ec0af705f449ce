"""Where a step's scored answers come from: the next prompts, drawn in step or ahead of it.

in step    sample ──> score                                      one step after the other
ahead      publish the weights ──> begin the step that is `rollouts.ahead` later ──> wait for
           this step's answers, which were begun before ──> score
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Generic

from vlrl.config.schema import RunConfig
from vlrl.distributed.comm import World, all_max
from vlrl.errors import DataError
from vlrl.log.metrics import Meter
from vlrl.protocols import Policy, T, Task
from vlrl.seeds import row_seed
from vlrl.train.curriculum.curriculum import Curriculum
from vlrl.train.draws import Draw, Draws, dealt
from vlrl.train.experience import Experience
from vlrl.train.failures import Result, on_all
from vlrl.train.scoring import stage_rewards
from vlrl.train.scoring_queue import ScoringQueue, overlaps_sampling
from vlrl.train.unreadable import Unreadable
from vlrl.types import Rollout, Sample


class Drawing(Generic[T]):
    """Draws and scores this rank's groups."""

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        curriculum: Curriculum,
        policy: Policy[T],
        world: World,
        folder: Path,
        *,
        learns: bool,
    ) -> None:
        """learns: a part of the reward learns from the answers, on the caller's thread."""
        self.config, self.world = config, world
        self.task, self.curriculum, self.policy = task, curriculum, policy
        self.samples = list(task.samples(config.train_split))
        self.unreadable = Unreadable(policy.check_sample, world, folder)
        options = config.rollouts
        self.ahead = options.ahead
        overlap = config.scoring.overlap_sampling
        self._overlaps = [
            overlaps_sampling(stage.reward, overlap, world.size) and not (self.ahead and learns)
            for stage in curriculum.stages
        ]
        self.draws: Draws[T] = Draws(
            policy,
            config.algo.group_size,
            order=options.order,
            staleness=options.staleness,
            keeps_old=options.too_old == "keep",
        )
        self._turn = Lock()
        self._taken: list[Draw[T]] = []
        self._position = 0

    @property
    def overlap(self) -> bool:
        """Whether answers are scored while others are drawn."""
        return self._overlaps[self.curriculum.number]

    @property
    def _per_rank(self) -> int:
        return self.config.algo.num_prompts // self.world.size

    def next(self, step: int, meter: Meter) -> Experience[T]:
        """The answers that a step learns from; step: how many are done."""
        self._position, self._taken = self.curriculum.position, []
        if not (self.ahead or self.draws.queue):
            return self.more(self._per_rank, step, meter)
        with meter.timed("sampling"):
            self._fill(step, meter)
            self._position = self.curriculum.position
            on_all(partial(self._take, step), self.world)
            for name, value in self.policy.facts().items():
                meter.maximum(name, value)
        return self._scored(self._taken, meter)

    def _take(self, step: int) -> None:
        """Kept at once: where another rank fails, this one's are put back too."""
        self._taken = self.draws.take(self._per_rank, step)

    def put_back(self) -> None:
        """The last step's prompts were not learnt from: they come again."""
        self.curriculum.position = self._position
        self.draws.put_back(self._taken)
        self._taken = []

    def drop(self) -> None:
        """Give up what is drawn ahead."""
        self.draws.drop()

    def more(self, per_rank: int, step: int, meter: Meter) -> Experience[T]:
        """Answers to the next prompts with the weights of now."""
        draw = self._readable(per_rank, step, lambda draw: self._in_step(draw, meter))
        return self._scored([draw], meter)

    def _in_step(self, draw: Draw[T], meter: Meter) -> Draw[T]:
        draw.result = Future()
        with meter.timed("sampling"):
            G, ready = self.config.algo.group_size, draw.scoring.begin()
            self.policy.facts()  # those of evaluations are not this step's
            sample = partial(self.policy.sample, draw.samples, G, draw.seed, ready=ready)
            draw.result.set_result(on_all(sample, self.world))
            for name, value in self.policy.facts().items():
                meter.maximum(name, value)
        return draw

    def _fill(self, step: int, meter: Meter) -> None:
        """Begin what is to be drawn now; all ranks do the same number of prompts."""
        num_old = self.draws.drop_old(step)
        meter.add_sum("rollout/discarded_groups", float(num_old), 1 / self.world.size)
        coming = min(self.ahead, self.config.num_steps - 1 - step) + 1
        lacking = max(0, coming * self._per_rank - self.draws.num_groups)
        wanted = int(all_max(lacking, self.world))
        is_waiting = bool(all_max(len(self.draws.waiting), self.world))
        if wanted or is_waiting:
            on_all(self._publish, self.world)
        on_all(partial(self._begin, self.draws.waiting, step), self.world)
        for start in range(0, wanted, self._per_rank):
            num = min(self._per_rank, wanted - start)
            begun = self._readable(num, step, partial(self._begun, step=step))
            self.draws.queue += begun
            self._position = self.curriculum.position  # these are kept if a later one fails

    def _publish(self) -> None:
        sample = next((d.samples[0] for d in self.draws.waiting), None)
        if sample is None and self.task.skips_unreadable(self.config.train_split):
            sample = self.unreadable.first_readable(self.samples)
        self.policy.publish(sample or self.samples[0])

    def _begin(self, draws: Sequence[Draw[T]], step: int) -> None:
        for draw in draws:
            self.draws.begin(draw, step)

    def _begun(self, draw: Draw[T], step: int) -> list[Draw[T]]:
        """A draw as it is taken later: as a whole, or each group by itself."""
        parts = [draw] if self.config.rollouts.order == "given" else self._groups_of(draw)
        on_all(partial(self._begin, parts, step), self.world)
        return parts

    def _groups_of(self, draw: Draw[T]) -> list[Draw[T]]:
        position, first = draw.key
        return [
            replace(
                draw,
                samples=[draw.samples[g]],
                places=[draw.places[g]],
                key=(position, first + g),
                scoring=self._scoring(),
            )
            for g in range(len(draw.samples))
        ]

    def _scored(self, draws: Sequence[Draw[T]], meter: Meter) -> Experience[T]:
        """The rewards of answers that are there, and their draws as one."""
        with meter.timed("scoring"):
            on_all(lambda: [draw.scoring.result() for draw in draws], self.world)
        for draw in draws:
            draw.scoring.close()
        if self.overlap:
            meter.maximum("scoring/overlapped_s", sum(draw.scoring.scoring_s for draw in draws))
        made = [draw.drawn() for draw in draws]
        rollouts: list[Rollout] = []
        for draw, (some, _) in zip(draws, made, strict=True):
            first = len(rollouts) // self.config.algo.group_size
            for rollout in some:
                rollout.begun = draw.begun
                rollout.group += first if len(draws) > 1 else 0
            rollouts += some
        parts = [trajectory for _, trajectory in made]
        trajectory = parts[0] if len(parts) == 1 else type(parts[0]).join(parts)
        stage = self.curriculum.stage
        rewards = stage_rewards(rollouts, stage.reward.num_stages)
        results = self.curriculum.results(rollouts)
        return Experience(rollouts, trajectory, rewards, stage.algo.advantage == "gdpo", results)

    def _readable(self, per_rank: int, step: int, work: Callable[[Draw[T]], Result]) -> Result:
        """Some work on the next prompts; where one cannot be read, on those without it."""
        position = self.curriculum.position
        draw = self._drawn(per_rank, step)
        try:
            return work(draw)
        except DataError:
            skips = self.task.skips_unreadable(self.config.train_split)
            found = self.unreadable.find(draw.samples) if skips else set()
            if not found:
                raise
        self.leave_out(found)
        self.curriculum.position = position
        return self._readable(per_rank, step, work)

    def leave_out(self, ids: Collection[str]) -> None:
        """Never draw these again."""
        places = [i for i, sample in enumerate(self.samples) if sample.id in ids]
        self.curriculum.left_out.update(places)

    def _drawn(self, per_rank: int, step: int) -> Draw[T]:
        """This rank's part of the next prompts."""
        drawn = self.curriculum.take(per_rank * self.world.size)
        mine = self._mine(drawn)
        is_last = step + 1 == self.config.num_steps
        num_coming = 0 if is_last else self.config.algo.num_prompts
        coming = self._mine(self.curriculum.peek(num_coming))
        self.policy.expect([self.samples[i] for i in (*mine, *coming)])
        first = self.world.rank * per_rank
        samples = [
            self._sample_at(i, (drawn[:first] + mine[:n]).count(i)) for n, i in enumerate(mine)
        ]
        position = self.curriculum.position
        seed = row_seed(self.config.seed, "rollout", position)
        return Draw(samples, mine, seed, (position, first), step, self._scoring())

    def _mine(self, drawn: list[int]) -> list[int]:
        num = len(drawn) // self.world.size
        return drawn[self.world.rank * num : (self.world.rank + 1) * num]

    def _sample_at(self, place: int, draw: int) -> Sample:
        return replace(self.samples[place], draw=draw)

    def _scoring(self) -> ScoringQueue:
        G = self.config.algo.group_size
        reward = self.curriculum.reward
        return ScoringQueue(self.task, reward, G, overlap=self.overlap, turn=self._turn)

    def state_dict(self) -> Mapping[str, Any]:
        """The groups that are drawn ahead; those that are being drawn are waited for."""
        rows = self.draws.rows()
        return {"draws": rows} if rows else {}

    def load_state_dict(self, states: Sequence[Mapping[str, Any]], num_ranks: int) -> None:
        """Go on with what was drawn ahead: this rank's, or that of all of another number."""
        rows = [state["draws"] for state in states]
        same = num_ranks == self.world.size
        own = rows[0] if same and rows else dealt(rows, self.world.rank, self.world.size)
        self.draws.load(own, self._sample_at, self._scoring)
