"""Steps of given answers instead of drawn ones: supervised fine-tuning, and DPO on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vlrl.algo.preference import preference
from vlrl.distributed.waiting import waiting
from vlrl.log.metrics import Meter
from vlrl.protocols import Drawn, T
from vlrl.seeds import row_seed
from vlrl.train.drawing import Drawing
from vlrl.train.draws import Draw
from vlrl.train.experience import Experience
from vlrl.train.failures import on_all
from vlrl.train.given_answers import GivenAnswers
from vlrl.train.passes import collected
from vlrl.train.update import with_reference
from vlrl.types import Finish, Rollout, Sample, Score


class Given(Drawing[T]):
    """The next samples' answers; what they weigh in the loss stands in place of rewards."""

    def __init__(self, answers: GivenAnswers, *args: Any, **options: Any) -> None:
        """args, options: as of Drawing."""
        super().__init__(*args, **options)
        self.answers = answers
        known = answers.by_id
        self.leave_out([sample.id for sample in self.samples if sample.id not in known])

    def _in_step(self, draw: Draw[T], meter: Meter) -> Draw[T]:
        draw.result = Future()
        with meter.timed("sampling"):
            draw.result.set_result(on_all(partial(self._given, draw), self.world))
        return draw

    def _given(self, draw: Draw[T]) -> Drawn[T]:
        chosen = [self._choice(sample, draw.seed) for sample in draw.samples]
        trajectory = self.policy.given(draw.samples, chosen)
        num = trajectory.mask.sum(1).tolist()
        rollouts: list[Rollout] = []
        for group, (sample, answers) in enumerate(zip(draw.samples, chosen, strict=True)):
            for index, answer in enumerate(answers):
                length = num[len(rollouts)]
                rollouts.append(
                    Rollout(sample, group, index, answer, Finish.STOP, length, self.policy.version)
                )
        return rollouts, trajectory

    def _choice(self, sample: Sample, seed: int) -> tuple[Any, ...]:
        choices = self.answers.by_id[sample.id]
        return choices[row_seed(seed, sample.seed_name, 0) % len(choices)]

    def _scored(self, draws: Sequence[Draw[T]], meter: Meter) -> Experience[T]:
        rollouts, trajectory = draws[0].drawn()
        for rollout in rollouts:
            rollout.parsed = self.task.parse(rollout.sample, rollout.output)
        weights = torch.ones(len(rollouts))
        if self.answers.dpo is not None:
            weights = self._preferred(trajectory, meter)
        for rollout, weight in zip(rollouts, weights.tolist(), strict=True):
            rollout.score = Score(weight)
        return Experience(rollouts, trajectory, weights[:, None])

    def _preferred(self, trajectory: T, meter: Meter) -> Tensor:
        """Every answer's weight, [B]: pairs lie in neighbouring rows."""
        options = self.answers.dpo
        assert options is not None
        with meter.timed("reference"):
            reference = with_reference(self.policy, trajectory, self.world).reference
            rows = list(range(len(trajectory)))
            with waiting("the log-probs of given answers"):
                now = collected(self.policy, trajectory, [rows], self.world, self._logp)
        assert reference is not None
        assert now is not None
        mask = trajectory.mask
        mine, before = ((x.cpu() * mask).sum(1).reshape(-1, 2) for x in (now, reference))
        found = preference(mine, before, options.beta, options.label_smoothing)
        meter.add("dpo/loss", found.loss.tolist())
        meter.add("dpo/margin", found.margin.tolist())
        meter.add("dpo/accuracy", (found.margin > 0).tolist())
        # The update's mean is over answers, of which a pair has two.
        return 2 * found.weight.flatten()

    def _logp(self, chunk: T) -> Tensor:
        return self.policy.evaluate(chunk).logp.cpu()
