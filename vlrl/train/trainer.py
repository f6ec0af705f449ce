"""The trainer: group-relative policy optimisation for any policy, task and reward.

    PromptSampler ──> P samples on this rank, whole groups (a group never crosses a rank)
         │
         v
    policy.sample ──> B = P x G rollouts + trajectory (log-probs, mask)        time/sampling
         │             in step, or begun some steps before: `rollouts.ahead`
         │
         v
    task.parse ──> reward tree ──> rewards [B, S], nan = does not apply        time/scoring
         │                │         one column, or one per stage of the answer
         │                ├── overlapped with sampling, where a reward waits for another machine
         │                └── groups of equal rewards: counted, dropped, drawn again (optional)
         v
    carry a later stage's reward back ──> advantages [B, S], within groups, no collective
         │
         v
    each action gets that of its stage, trajectory.stage [B, T]; one stage: that of its answer
         │
         v
    policy.reference (only with KL)                                       time/reference
         │
         v
    update: chunks ──> policy.evaluate ──> objective ──> backward ──> step     time/update
         │
         v
    trainable rewards learn on the same rollouts ──> log, evaluate, checkpoint

The trainer never asks what kind of policy, task or reward it has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor

from vlrl.algo.advantages import difficulty_weight, group_statistics
from vlrl.algo.stages import carry_back, to_actions
from vlrl.config.schema import RunConfig
from vlrl.distributed.comm import World, all_gather, all_max
from vlrl.distributed.engine import Engine
from vlrl.distributed.waiting import waiting
from vlrl.distributed.watchdog import Watchdog
from vlrl.errors import CheckpointError, StoppedError, writing
from vlrl.log.console import StepConsole, task_columns
from vlrl.log.metrics import Meter
from vlrl.log.rollouts import record_groups
from vlrl.log.sinks import Sink
from vlrl.protocols import Policy, Reward, T, Task
from vlrl.train.checkpoint import Checkpoints
from vlrl.train.checkpoint_state import TrainerState, data_fingerprint
from vlrl.train.credit import in_stages, stage_advantages
from vlrl.train.curriculum.curriculum import Curriculum
from vlrl.train.drawing import Drawing
from vlrl.train.evaluation import HeldOut
from vlrl.train.evaluation_files import is_evaluated
from vlrl.train.experience import Experience, with_replaced
from vlrl.train.failures import FROM_OUTSIDE, Result, after_saving, on_all
from vlrl.train.given import Given
from vlrl.train.given_answers import GivenAnswers
from vlrl.train.health import IdleWatch, record_canary, record_health
from vlrl.train.learners import learners, learning
from vlrl.train.lock import RunLock
from vlrl.train.saving import Saving
from vlrl.train.scoring import measured, record, record_staleness
from vlrl.train.stopping import StopRequest
from vlrl.train.update import Batch, update, with_reference
from vlrl.types import Finish, Rollout

log = logging.getLogger(__name__)


class Trainer(Generic[T]):
    """Runs a whole training; built by vlrl/build.py, which joins the plug-ins."""

    def __init__(
        self,
        config: RunConfig,
        config_yaml: str,
        world: World,
        folder: Path,
        task: Task,
        curriculum: Curriculum,
        policy: Policy[T],
        engine: Engine,
        checkpoints: Checkpoints,
        metrics: Mapping[str, Reward],
        answers: GivenAnswers | None = None,
    ) -> None:
        """answers: learn from these instead of drawing."""
        self.config, self.config_yaml = config, config_yaml
        self.world, self.folder = world, folder
        self.task, self.policy, self.engine = task, policy, engine
        self.curriculum = curriculum
        self.checkpoints, self.metrics = checkpoints, metrics
        self.lock: RunLock | None = None
        """Of the run's folder; held while the trainer lives."""
        self.sinks: Sequence[Sink] = ()
        """Set once the run is known to start: on the main rank."""
        rewards = [stage.reward for stage in curriculum.stages]
        self.trainable, self.normalisers = learners(rewards if answers is None else (), config.algo)
        source = Drawing if answers is None else partial(Given, answers)
        self.drawing: Drawing[T] = source(
            config, task, curriculum, policy, world, folder, learns=bool(self.trainable)
        )
        self.data = data_fingerprint(sample.id for sample in self.drawing.samples)
        self.idle = IdleWatch()
        self.step = 0
        self.version = 0
        self.kernels: dict[str, str] = {}
        self.saving = Saving(config.checkpoint.every_minutes, checkpoints, world, self.save)

    def train(self, earlier: StopRequest | None = None) -> None:
        """Evaluate, train from `step` on, evaluate again; `earlier`: what was asked before."""
        dist, saved = self.config.dist, self.checkpoints
        try:
            with Watchdog(self.world, dist, self.step, lambda: saved.newest_step) as watchdog:
                self._train(watchdog, earlier)
        except BaseException:
            self.policy.abandon()  # else the exit would wait for the answers under way
            raise
        finally:
            self.policy.expect(())  # prompts that wait to be encoded would hold up the exit
        for sink in self.sinks:
            sink.close()

    def _train(self, watchdog: Watchdog, earlier: StopRequest | None) -> None:
        config = self.config
        if self.step >= config.num_steps:
            log.warning("step %d of %d is done already: raise num_steps to train on",
                        self.step, config.num_steps)  # fmt: skip
        with StopRequest(is_main=self.world.is_main, earlier=earlier) as stop:
            self.saving.check(stop, self.step)
            if self.step == 0 and config.eval.before:
                self.evaluate("before", stop)
            elif self.step and self._due(config.eval.every) and self._is_unevaluated():
                self.evaluate(self._label(), stop)
            with self.saving.finishing():
                self._train_steps(stop, watchdog)
            if config.checkpoint.at_end:
                self.saving.save_step(self.step)
            if config.eval.after:
                # A run that has saved its last step may stop here: the resumed one evaluates.
                self.evaluate("after", stop if config.checkpoint.at_end else None)

    def _train_steps(self, stop: StopRequest, watchdog: Watchdog) -> None:
        """Steps, evaluations and checkpoints, up to the last step."""
        config = self.config
        show = self.world.is_main and config.log.console
        with StepConsole(
            config.name,
            config.num_steps,
            self.step,
            show=show,
            quiet=config.log.quiet,
            columns=task_columns(type(self.task)),
        ) as console:
            while self.step < config.num_steps:
                metrics = self.train_step()
                watchdog.step_done(self.step)
                console.advance(1, metrics)
                is_last = self.step == config.num_steps
                is_due = self.saving.end_step(stop, self.step, stops=not is_last)
                if self._due(config.eval.every):
                    self._saved_if_failed(partial(self.evaluate, self._label(), stop))
                if is_due or self._due(config.checkpoint.every):
                    self.save(beside=not is_last)
                    # Which may have taken longer than a step.
                    self.saving.end_step(stop, self.step, stops=not is_last)

    def train_step(self) -> dict[str, float]:
        """One step of the drawing above; returns its metrics, the same on all ranks."""
        meter, stage = Meter(), self.curriculum.stage
        experience = self._saved_if_failed(partial(self.collect, meter))
        batch = self.prepare(experience, meter)
        with meter.timed("update"), waiting("the update"):
            num_steps = update(self.policy, self.engine, batch, stage.algo, self.world, meter)
        self.version += num_steps
        self.policy.version = self.version
        rests = self.idle.rests(stage.reward)  # before the reward's own round ends
        for node in learning(self.trainable, stage.reward):
            for name, value in node.update(experience.rollouts).items():
                meter.add(f"trainable_reward/{node.name}_{name}", [value])
        self.step += 1
        every = self.config.log.rollouts_every
        if every and (self.step == 1 or self.step % every == 0) and self.world.is_main:
            limit = self.config.log.num_rollout_groups
            with writing(self.folder / "rollouts"):
                rollouts = experience.rollouts
                record_groups(self.folder, self.step, self.task, rollouts, limit, stage.name)
        metrics = meter.reduce(self.world)
        metrics["progress/epoch"] = self.curriculum.epoch
        metrics |= self.curriculum.end_step(experience.results, metrics, self.world)
        if self.curriculum.stage is not stage:
            self.drawing.drop()  # it is scored by another reward
        for sink in self.sinks:
            sink.write(self.step, metrics)
        if not rests:
            first = experience.rollouts[0].sample.id
            none = metrics["reward/not_applicable"]
            self.idle.see(stage.reward, self.step, none, first, self.world.is_main)
        return metrics

    def _saved_if_failed(self, work: Callable[[], Result]) -> Result:
        """Some work; where a reward or the data fails in it, what was learnt is saved first."""
        try:
            return work()
        except FROM_OUTSIDE as error:
            if not self.step:
                raise
            if self.checkpoints.newest_step != self.step:
                self.save()
            raise after_saving(error, self.step) from error

    def collect(self, meter: Meter) -> Experience[T]:
        """Sample and score this rank's groups; groups that teach nothing may be drawn again."""
        try:
            return self._collected(meter)
        except FROM_OUTSIDE:
            self.drawing.put_back()
            raise

    def _collected(self, meter: Meter) -> Experience[T]:
        algo, drawing = self.curriculum.algo, self.drawing
        experience = drawing.next(self.step, meter)
        for _ in range(algo.resample_rounds):
            zero_variance = experience.zero_variance()
            num_zero_variance = int(zero_variance.sum()) // algo.group_size
            # All ranks draw alike, so that the walk over the data stays the same on all.
            wanted = int(all_max(num_zero_variance, self.world))
            if not wanted:
                break
            meter.add("filter/resampled_groups", [float(num_zero_variance)])
            again = drawing.more(wanted, self.step, meter)
            experience = with_replaced(experience, again, algo.group_size)
        record(meter, self.task, experience.rollouts)
        record_health(meter, self.curriculum.reward, experience.rollouts)
        if drawing.unreadable.reasons:
            meter.maximum("data/unreadable", len(drawing.unreadable.reasons))
        health = self.config.health
        for name in health.canaries if self.step % health.every == 0 else ():
            canary = {name: self.metrics[name]}
            values = on_all(partial(measured, canary, experience.rollouts), self.world)[name]
            record_canary(meter, name, values, experience.rollouts)
        return experience

    def prepare(self, experience: Experience[T], meter: Meter) -> Batch[T]:
        """Advantages, weights and filters; with KL also the reference's log-probs."""
        algo = self.curriculum.algo
        group, trajectory = experience.trajectory.group, experience.trajectory
        rewards = carry_back(experience.rewards, algo.stage_carry)
        advantage = stage_advantages(rewards, group, algo, self.world, experience.rollouts)
        zero_variance = experience.zero_variance(rewards)
        truncated = torch.tensor([r.finish is Finish.LENGTH for r in experience.rollouts])
        kept = ~rewards.isnan().all(1)
        if algo.drop_zero_variance:
            kept &= ~zero_variance
        if algo.mask_truncated:
            kept &= ~truncated
        meter.add("filter/zero_variance", zero_variance.tolist())
        meter.add("filter/kept", kept.tolist())
        for column in rewards.unbind(1):
            meter.add("reward/group_std", group_statistics(column, group)[1].tolist())
        meter.add("update/advantage_abs", advantage.abs().flatten().tolist())
        record_staleness(meter, experience.rollouts, self.version, self.step)
        for rollout, value in zip(experience.rollouts, advantage.mean(1).tolist(), strict=True):
            rollout.advantage = value
        if rewards.shape[1] > 1 and trajectory.stage is None:
            trajectory = in_stages(self.policy, self.task, trajectory, rewards.shape[1])
        each = to_actions(advantage, trajectory.stage)
        if algo.needs_reference:
            with meter.timed("reference"):
                trajectory = with_reference(self.policy, trajectory, self.world)
        if self.normalisers is not None:
            each = self.normalisers.targets(experience.rollouts, rewards, trajectory)
        ids = [r.sample.id for r in experience.rollouts]
        weights = self._weights(experience.rollouts)
        return Batch(trajectory, each, weights, kept, ids, num_stages=rewards.shape[1])

    def _weights(self, rollouts: Sequence[Rollout]) -> Tensor:
        options = self.curriculum.algo.difficulty
        if options is None:
            return torch.ones(len(rollouts))
        sizes = torch.tensor([self.task.difficulty(r.sample) for r in rollouts])
        return difficulty_weight(sizes, **options.model_dump()).nan_to_num(1.0)

    def evaluate(self, label: str, stop: StopRequest | None = None) -> None:
        """Greedy answers on every held-out split, written to `evaluations/<label>/`.

        Where the run is to stop meanwhile, the step is saved and StoppedError raised.
        """
        check = None if stop is None else partial(self.saving.check, stop, self.step)
        held_out = HeldOut(
            self.config, self.task, self.metrics, self.folder, self.world, self.drawing.unreadable
        )
        try:
            with self.engine.averaged(), self._swapped():
                held_out.evaluate(self.policy, label, check)
        except StoppedError:
            self.saving.save_step(self.step)  # the weights are themselves again
            raise

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        """Around answers of the running average, if there is one."""
        is_other = self.engine.average is not None
        if is_other:
            self.policy.weights_swapped()
        yield
        if is_other:
            self.policy.weights_swapped()

    def save(self, *, beside: bool = False) -> None:
        """Write a checkpoint; all ranks call this. beside: `checkpoint.beside_training` applies."""
        state = TrainerState.of(
            self.engine,
            self.step,
            sampler=self.curriculum.position,
            version=self.version,
            num_rewards=len(self.trainable),
            kernels=self.kernels,
            data=self.data,
            curriculum=self.curriculum.state(),
        )
        rewards = [node.state_dict() for node in self.trainable]
        if drawn := self.drawing.state_dict():
            rewards.append(drawn)
        self.checkpoints.save(self.engine, state, rewards, self.config_yaml, beside=beside)
        self.saving.restart()

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint as if nothing had happened."""
        state, rewards = self.checkpoints.load(path, self.engine)
        drawing, curriculum = self.drawing, self.curriculum
        self.step = state.step
        curriculum.load(state.curriculum, state.sampler, path)
        self.version = self.policy.version = state.version
        self.kernels = dict(state.kernels)
        num = state.trainable_rewards
        if num != len(self.trainable):
            raise CheckpointError(
                f"{path} holds {num} learning rewards, this run has "
                f"{len(self.trainable)}; resume with the rewards that it was saved with, those of "
                "all stages"
            )
        if state.has_same_data(self.data, f"task.data.{self.config.train_split}"):
            queued = [own[num] for own in rewards if len(own) > num]
            drawing.load_state_dict(queued, state.num_ranks)
        else:
            curriculum.position = curriculum.next_epoch  # else some would not be drawn
        learnt = [own[:num] for own in rewards]
        for node, saved in zip(self.trainable, zip(*learnt, strict=True), strict=True):
            own = saved[0]
            if state.num_ranks != self.world.size:
                own = node.resharded(saved, self.world.rank, self.world.size)
            node.load_state_dict(own)
        if self.task.skips_unreadable(self.config.train_split):
            drawing.leave_out(drawing.unreadable.find_again(drawing.samples))

    def settle_kernels(self) -> None:
        """The same kernels on all ranks: a checkpoint's, or the main rank's choice."""
        picked = self.kernels or (dict(self.policy.pick_kernels()) if self.world.is_main else {})
        self.kernels = all_gather(picked, self.world)[0]
        on_all(partial(self.policy.use_kernels, self.kernels), self.world)

    def _label(self) -> str:
        return f"step-{self.step:06d}"

    def _is_unevaluated(self) -> bool:
        """Whether this step's evaluation is still to come: a stop saves the step before it."""
        folder = self.folder / "evaluations" / self._label()
        return all_gather(not is_evaluated(folder, self.config.eval.splits), self.world)[0]

    def _due(self, every: int) -> bool:
        return bool(every) and self.step % every == 0
