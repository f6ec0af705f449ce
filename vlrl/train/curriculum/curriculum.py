"""The stages of a run one after the other, and where it stands in them.

    take ──> rollouts ──> results ──┐   may run ahead of `end_step` by some steps
                                    v
            end_step(results, metrics)  once a step, in order; may begin the next stage

What `take` gives depends on the steps that `end_step` has seen, and on nothing else: prompts that
are drawn ahead are chosen by what was known then. Where a stage begins, what was drawn ahead in
the one before is dropped, so that every step is of one stage.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from vlrl.config.schema import AlgoConfig
from vlrl.distributed.comm import World, all_gather
from vlrl.errors import CheckpointError, ConfigError
from vlrl.protocols import Reward, Task
from vlrl.train.curriculum.exits import Exit
from vlrl.train.curriculum.names import check_seen
from vlrl.train.curriculum.samplers import AdaptiveSampler, stage_samplers
from vlrl.train.curriculum.stage import REWARD, Stage
from vlrl.train.curriculum.state import CurriculumState
from vlrl.train.sampler import Sampler
from vlrl.types import Rollout, Sample

log = logging.getLogger(__name__)
Results = Mapping[str, Sequence[float]]
"""Success of the answers to each sample, 0 to 1, by its id."""
ROUNDING = 1e-6


class Curriculum:
    """Draws the prompts, and says with what they are learnt; a run without has one endless stage.

    ConfigError for a stage that keeps no sample, and for what its fields and metrics cannot be.
    """

    def __init__(
        self, stages: Sequence[Stage], samples: Sequence[Sample], task: Task, split: str, seed: int
    ) -> None:
        self.stages, self.task = stages, task
        self.ids = [sample.id for sample in samples]
        self._places = {name: place for place, name in enumerate(self.ids)}
        self.number = 0
        """Of the stage, from 0."""
        self.left_out: set[int] = set()
        """Samples that turned out to be unreadable; they are passed over."""
        self._start = 0
        self._samplers = stage_samplers(stages, samples, task, split, seed)
        for sampler in self._samplers:
            sampler.left_out = self.left_out
        self._exit = self._exit_of(0)
        self._checked: set[int] = set()

    @property
    def stage(self) -> Stage:
        """The one that the run is in."""
        return self.stages[self.number]

    @property
    def reward(self) -> Reward:
        """Of the stage."""
        return self.stage.reward

    @property
    def algo(self) -> AlgoConfig:
        """Of the stage."""
        return self.stage.algo

    @property
    def position(self) -> int:
        """Draws of the run so far; set it back, and they are drawn again."""
        return self._start + self._sampler.position

    @position.setter
    def position(self, value: int) -> None:
        self._sampler.position = value - self._start

    @property
    def next_epoch(self) -> int:
        """The position of the next start of a pass over the stage's samples."""
        return self._start + self._sampler.next_epoch

    @property
    def epoch(self) -> float:
        """Passes over the stage's samples so far."""
        return self._sampler.epoch

    def take(self, count: int) -> list[int]:
        """The next `count` samples, by their places; DataError where none can be read."""
        return self._sampler.take(count)

    def peek(self, count: int) -> list[int]:
        """What `take` would give now; a step that ends before it may change that."""
        return self._sampler.peek(count)

    def results(self, rollouts: Sequence[Rollout]) -> Results:
        """What the sampler wants to know of scored answers; nothing where it asks nothing."""
        stage = self.stage
        if stage.success is None:
            return {}
        found: dict[str, list[float]] = {}
        for rollout, value in zip(rollouts, self._successes(stage, rollouts), strict=True):
            if not math.isnan(value):
                found.setdefault(rollout.sample.id, []).append(value)
        return found

    def _successes(self, stage: Stage, rollouts: Sequence[Rollout]) -> list[float]:
        if stage.success == REWARD:
            low, high = stage.reward.range
            width = (high - low) or 1.0
            scores = [None if one.score is None else one.score.value for one in rollouts]
            values = [math.nan if one is None else (one - low) / width for one in scores]
        else:
            known = self.task.metrics(rollouts)
            if stage.success not in known:
                raise ConfigError(
                    f"{stage.place}.sampler.success: {stage.success!r} is neither `reward` nor a "
                    f"metric of the task, which has {', '.join(known)}"
                )
            values = [float(one) for one in known[str(stage.success)]]
        for rollout, value in zip(rollouts, values, strict=True):
            if not (math.isnan(value) or -ROUNDING <= value <= 1 + ROUNDING):
                raise ConfigError(
                    f"{stage.place}.sampler.success: must be from 0 to 1; {stage.success!r} of an "
                    f"answer to sample {rollout.sample.id!r} is {value:.4g}"
                )
        return [one if math.isnan(one) else min(max(one, 0.0), 1.0) for one in values]

    def end_step(
        self, results: Results, metrics: Mapping[str, float], world: World
    ) -> dict[str, float]:
        """A step is done; returns metrics of the curriculum in it; all ranks call this.

        metrics: the step's, the same on all ranks. Begins the next stage where this one's exit
        says so. ConfigError where an exit looks at a metric that the run does not have.
        """
        if self.stage.options is None:
            return {}
        number = self.number
        facts = {"curriculum/stage": number + 1.0}
        if number not in self._checked:
            check_seen(self.stages, number, metrics, self.task)
            self._checked.add(number)
        sampler = self._sampler
        if isinstance(sampler, AdaptiveSampler):
            sampler.learn(self._joined(all_gather(results, world)))
            known = list(sampler.success.values())
            facts["curriculum/prompts_tried"] = float(len(known))
            if known:
                facts["curriculum/mean_success"] = math.fsum(known) / len(known)
        self._exit.see(metrics)
        facts["curriculum/stage_steps"] = float(self._exit.state.num_steps)
        if why := self._exit.reason():
            self._begin(number + 1)
            log.info("stage %r begins, after %s in the one before", self.stage.name, why)
        return facts

    def _joined(self, parts: Sequence[Results]) -> dict[int, float]:
        """Mean success by place; exact sums, so that the division over ranks does not matter."""
        gathered: dict[str, list[float]] = {}
        for part in parts:
            for name, values in part.items():
                gathered.setdefault(name, []).extend(values)
        return {
            self._places[name]: math.fsum(values) / len(values) for name, values in gathered.items()
        }

    def state(self) -> CurriculumState | None:
        """What a checkpoint keeps besides `position`; None without a curriculum."""
        if self.stage.options is None:
            return None
        success = {}
        if isinstance(self._sampler, AdaptiveSampler):
            success = {self.ids[i]: value for i, value in self._sampler.success.items()}
        return CurriculumState(
            stage=self.stage.name, start=self._start, exit=self._exit.state, success=success
        )

    def load(self, state: CurriculumState | None, position: int, path: object) -> None:
        """Go on from a checkpoint's state and position."""
        if self.stage.options is not None and state is None:
            log.warning("%s was saved without a curriculum, which begins now", path)
            self._start = position
        elif self.stage.options is None and state is not None:
            log.warning("%s was saved with a curriculum; the run goes on without one", path)
        elif state is not None:
            names = [stage.name for stage in self.stages]
            if state.stage not in names:
                raise CheckpointError(
                    f"{path} was saved in stage {state.stage!r}, and `curriculum` has "
                    f"{', '.join(names)}; name one of them so, or start a new run from the "
                    "exported weights"
                )
            self._begin(names.index(state.stage))
            self._start, self._exit.state = state.start, state.exit
            if isinstance(self._sampler, AdaptiveSampler):
                self._sampler.success = {
                    self._places[name]: value
                    for name, value in state.success.items()
                    if name in self._places
                }
        self.position = max(position, self._start)

    def _begin(self, number: int) -> None:
        start = self.position
        self.number, self._start = number, start
        self._exit = self._exit_of(number)

    def _exit_of(self, number: int) -> Exit:
        options = self.stages[number].options
        return Exit(None if options is None else options.exit)

    @property
    def _sampler(self) -> Sampler:
        return self._samplers[self.number]
