"""The trainer: group-relative policy optimisation for any policy, task and reward.

    PromptSampler ──> P samples on this rank, whole groups (a group never crosses a rank)
         │
         v
    policy.sample ──> B = P x G rollouts + trajectory (log-probs, mask)        time/sampling
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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor

from vlrl.algo.advantages import difficulty_weight, group_statistics
from vlrl.algo.stages import carry_back, to_actions
from vlrl.config.schema import AlgoConfig, RunConfig
from vlrl.distributed.comm import World, all_gather, all_max
from vlrl.distributed.engine import Engine
from vlrl.distributed.waiting import waiting
from vlrl.distributed.watchdog import Watchdog
from vlrl.errors import CheckpointError, DataError, StoppedError, writing
from vlrl.log.console import StepConsole, task_columns
from vlrl.log.metrics import Meter
from vlrl.log.rollouts import record_groups
from vlrl.log.sinks import Sink
from vlrl.protocols import Policy, Reward, T, Task
from vlrl.seeds import row_seed
from vlrl.train.checkpoint import Checkpoints
from vlrl.train.checkpoint_state import TrainerState, data_fingerprint
from vlrl.train.credit import in_stages, stage_advantages
from vlrl.train.curriculum.curriculum import Curriculum
from vlrl.train.evaluation import HeldOut
from vlrl.train.evaluation_files import is_evaluated
from vlrl.train.experience import Experience, with_replaced
from vlrl.train.failures import FROM_OUTSIDE, Result, after_saving, on_all
from vlrl.train.health import IdleWatch, record_canary, record_health
from vlrl.train.learners import learners, learning
from vlrl.train.lock import RunLock
from vlrl.train.saving import Saving
from vlrl.train.scoring import measured, record, stage_rewards
from vlrl.train.scoring_queue import ScoringQueue, overlaps_sampling
from vlrl.train.stopping import StopRequest
from vlrl.train.unreadable import Unreadable
from vlrl.train.update import Batch, update, with_reference
from vlrl.types import Finish, Rollout, Sample

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
        reward: Reward,
        policy: Policy[T],
        engine: Engine,
        checkpoints: Checkpoints,
        metrics: Mapping[str, Reward],
        curriculum: Curriculum,
    ) -> None:
        self.config, self.config_yaml = config, config_yaml
        self.world, self.folder = world, folder
        self.task, self.policy, self.engine = task, policy, engine
        self.checkpoints, self.metrics = checkpoints, metrics
        self.lock: RunLock | None = None
        """Of the run's folder; held while the trainer lives."""
        self.sinks: Sequence[Sink] = ()
        """Set once the run is known to start: on the main rank."""
        self.samples = list(task.samples(config.train_split))
        self.data = data_fingerprint(sample.id for sample in self.samples)
        self.curriculum, stages = curriculum, curriculum.stages
        self.trainable, self.normalisers = learners([stage.reward for stage in stages], config.algo)
        self.overlaps = [
            overlaps_sampling(stage.reward, config.scoring.overlap_sampling, world.size)
            for stage in stages
        ]
        self.idle = IdleWatch(reward)
        self.unreadable = Unreadable(policy.check_sample, world, folder)
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

    @property
    def reward(self) -> Reward:
        """Of the stage that the curriculum is in."""
        return self.curriculum.reward

    @property
    def algo(self) -> AlgoConfig:
        """Of the stage that the curriculum is in."""
        return self.curriculum.algo

    def train_step(self) -> dict[str, float]:
        """One step of the drawing above; returns its metrics, the same on all ranks."""
        meter = Meter()
        experience = self._saved_if_failed(partial(self.collect, meter))
        batch = self.prepare(experience, meter)
        with meter.timed("update"), waiting("the update"):
            num_steps = update(self.policy, self.engine, batch, self.algo, self.world, meter)
        self.version += num_steps
        self.policy.version = self.version
        self.idle.reward = self.reward
        rests = self.idle.rests  # before the reward's own round ends
        for node in learning(self.trainable, self.reward):
            for name, value in node.update(experience.rollouts).items():
                meter.add(f"trainable_reward/{node.name}_{name}", [value])
        self.step += 1
        every = self.config.log.rollouts_every
        if every and (self.step == 1 or self.step % every == 0) and self.world.is_main:
            limit, stage = self.config.log.num_rollout_groups, self.curriculum.stage.name
            with writing(self.folder / "rollouts"):
                record_groups(self.folder, self.step, self.task, experience.rollouts, limit, stage)
        metrics = meter.reduce(self.world)
        metrics["progress/epoch"] = self.curriculum.epoch
        metrics |= self.curriculum.end_step(
            experience.stage, experience.results, metrics, self.world
        )
        for sink in self.sinks:
            sink.write(self.step, metrics)
        if not rests:
            first = experience.rollouts[0].sample.id
            self.idle.see(self.step, metrics["reward/not_applicable"], first, self.world.is_main)
        return metrics

    def _saved_if_failed(self, work: Callable[[], Result]) -> Result:
        """Some work; where a reward or the data fails in it, what was learnt is saved first."""
        position = self.curriculum.position
        try:
            return work()
        except FROM_OUTSIDE as error:
            if not self.step:
                raise
            # These prompts were not learnt from: a resumed run draws them again.
            self.curriculum.position = position
            if self.checkpoints.newest_step != self.step:
                self.save()
            raise after_saving(error, self.step) from error

    def collect(self, meter: Meter) -> Experience[T]:
        """Sample and score this rank's groups; groups that teach nothing may be drawn again."""
        algo = self.algo
        per_rank = algo.num_prompts // self.world.size
        experience = self._sample(per_rank, meter)
        for _ in range(algo.resample_rounds):
            zero_variance = experience.zero_variance()
            num_zero_variance = int(zero_variance.sum()) // algo.group_size
            # All ranks draw alike, so that the walk over the data stays the same on all.
            wanted = int(all_max(num_zero_variance, self.world))
            if not wanted:
                break
            meter.add("filter/resampled_groups", [float(num_zero_variance)])
            experience = with_replaced(experience, self._sample(wanted, meter), algo.group_size)
        record(meter, self.task, experience.rollouts)
        record_health(meter, self.reward, experience.rollouts)
        if self.unreadable.reasons:
            meter.maximum("data/unreadable", len(self.unreadable.reasons))
        health = self.config.health
        for name in health.canaries if self.step % health.every == 0 else ():
            canary = {name: self.metrics[name]}
            values = on_all(partial(measured, canary, experience.rollouts), self.world)[name]
            record_canary(meter, name, values, experience.rollouts)
        return experience

    def _sample(self, per_rank: int, meter: Meter) -> Experience[T]:
        """Rollouts of the next prompts; where one cannot be read, of those without it."""
        position = self.curriculum.position
        samples = self._drawn(per_rank)
        try:
            return self._sampled(samples, meter)
        except DataError:
            skips = self.task.skips_unreadable(self.config.train_split)
            found = self.unreadable.find(samples) if skips else set()
            if not found:
                raise
        self._leave_out(found)
        self.curriculum.position = position
        return self._sample(per_rank, meter)

    def _leave_out(self, ids: Collection[str]) -> None:
        places = [i for i, sample in enumerate(self.samples) if sample.id in ids]
        self.curriculum.left_out.update(places)

    def _drawn(self, per_rank: int) -> list[Sample]:
        """This rank's part of the next prompts."""
        drawn = self.curriculum.take(per_rank * self.world.size)
        mine = self._mine(drawn)
        is_last = self.step + 1 == self.config.num_steps
        num_coming = 0 if is_last else self.algo.num_prompts
        coming = self._mine(self.curriculum.peek(num_coming))
        self.policy.expect([self.samples[i] for i in (*mine, *coming)])
        before = drawn[: self.world.rank * per_rank]
        return [
            replace(self.samples[i], draw=(before + mine[:n]).count(i)) for n, i in enumerate(mine)
        ]

    def _mine(self, drawn: list[int]) -> list[int]:
        num = len(drawn) // self.world.size
        return drawn[self.world.rank * num : (self.world.rank + 1) * num]

    def _sampled(self, samples: Sequence[Sample], meter: Meter) -> Experience[T]:
        seed = row_seed(self.config.seed, "rollout", self.curriculum.position)
        G, number = self.algo.group_size, self.curriculum.number
        overlap = self.overlaps[number]
        with ScoringQueue(self.task, self.reward, G, overlap=overlap) as queue:
            with meter.timed("sampling"):
                sample = partial(self.policy.sample, samples, G, seed, ready=queue.add)
                self.policy.facts()  # those of evaluations are not this step's
                rollouts, trajectory = on_all(sample, self.world)
                for name, value in self.policy.facts().items():
                    meter.maximum(name, value)
            with meter.timed("scoring"):
                on_all(queue.result, self.world)
        if overlap:
            meter.maximum("scoring/overlapped_s", queue.scoring_s)
        rewards = stage_rewards(rollouts, self.reward.num_stages)
        results = self.curriculum.results(number, rollouts)
        by_term = self.algo.advantage == "gdpo"
        return Experience(rollouts, trajectory, rewards, by_term, number, results)

    def prepare(self, experience: Experience[T], meter: Meter) -> Batch[T]:
        """Advantages, weights and filters; with KL also the reference's log-probs."""
        algo = self.algo
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
        meter.add(
            "rollout/staleness", [self.version - r.policy_version for r in experience.rollouts]
        )
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
        options = self.algo.difficulty
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
            self.config, self.task, self.metrics, self.folder, self.world, self.unreadable
        )
        try:
            with self.engine.averaged():
                held_out.evaluate(self.policy, label, check)
        except StoppedError:
            self.saving.save_step(self.step)  # the weights are themselves again
            raise

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
        self.checkpoints.save(self.engine, state, rewards, self.config_yaml, beside=beside)
        self.saving.restart()

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint as if nothing had happened."""
        state, rewards = self.checkpoints.load(path, self.engine)
        self.step = state.step
        self.curriculum.load(state.curriculum, state.sampler, path)
        if not state.has_same_data(self.data, f"task.data.{self.config.train_split}"):
            self.curriculum.position = self.curriculum.next_epoch  # else some would not be drawn
        self.version = self.policy.version = state.version
        self.kernels = dict(state.kernels)
        if len(rewards[0]) != len(self.trainable):
            raise CheckpointError(
                f"{path} holds {len(rewards[0])} learning rewards, this run has "
                f"{len(self.trainable)}; resume with the rewards that it was saved with, those of "
                "curriculum included"
            )
        for node, saved in zip(self.trainable, zip(*rewards, strict=True), strict=True):
            own = saved[0]
            if state.num_ranks != self.world.size:
                own = node.resharded(saved, self.world.rank, self.world.size)
            node.load_state_dict(own)
        if self.task.skips_unreadable(self.config.train_split):
            self._leave_out(self.unreadable.find_again(self.samples))

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
