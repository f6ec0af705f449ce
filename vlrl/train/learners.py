"""What learns along with the policy: rewards, and the normalisers of trajectory balance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vlrl.algo.trajectory_balance import moved, normaliser_estimate, of_answer
from vlrl.config.schema import AlgoConfig, BalanceConfig
from vlrl.distributed.comm import all_gather, current
from vlrl.protocols import Learner, Reward, TrainableReward, Trajectory
from vlrl.reward.parts import walk
from vlrl.types import Rollout


def learners(
    rewards: Iterable[Reward], algo: AlgoConfig
) -> tuple[list[Learner], Normalisers | None]:
    """All of a run's, in the order in which checkpoints hold them; rewards: those of its stages."""
    nodes = {id(node): node for reward in rewards for node in walk(reward)}
    found: list[Learner] = [node for node in nodes.values() if isinstance(node, TrainableReward)]
    if algo.objective != "trajectory_balance":
        return found, None
    normalisers = Normalisers(algo.balance)
    return [*found, normalisers], normalisers


def learning(found: Iterable[Learner], reward: Reward) -> list[Learner]:
    """Those of a run's that learn in a step with this reward."""
    nodes = {id(node) for node in walk(reward)}
    return [one for one in found if id(one) in nodes or not isinstance(one, Reward)]


class Normalisers(Learner):
    """log Z of every prompt that was drawn so far; alike on all ranks.

    A prompt's first value is its own group's estimate. It changes after the policy's step.
    """

    name = "normaliser"

    def __init__(self, options: BalanceConfig) -> None:
        self.options = options
        self.log_z: dict[str, float] = {}
        self.pending: dict[str, list[float]] = defaultdict(list)
        """Estimates of this rank's answers since the last update, by prompt."""

    def targets(
        self, rollouts: Sequence[Rollout], rewards: Tensor, trajectory: Trajectory
    ) -> Tensor:
        """beta r + log prior - log Z of every answer, [B, 1] rewards -> [B]; 0 without a reward."""
        o = self.options
        found = rewards[:, 0]
        logp = of_answer(trajectory.logp.cpu(), trajectory.mask.cpu(), o.per_token)
        prior = torch.zeros_like(logp)
        if o.prior == "reference":
            assert trajectory.reference is not None
            prior = of_answer(trajectory.reference.cpu(), trajectory.mask.cpu(), o.per_token)
        estimates = normaliser_estimate(found, logp, prior, o.beta)
        of_group: dict[int, list[float]] = defaultdict(list)
        for rollout, estimate in zip(rollouts, estimates.tolist(), strict=True):
            if not math.isnan(estimate):
                of_group[rollout.group].append(estimate)
                self.pending[rollout.sample.id].append(estimate)
        log_z = [
            self._log_z(rollout.sample.id, of_group.get(rollout.group, ())) for rollout in rollouts
        ]
        return (o.beta * found + prior - torch.tensor(log_z)).nan_to_num(0.0)

    def _log_z(self, name: str, own: Sequence[float]) -> float:
        """own: estimates of the group, which may be one of several of a prompt that is new."""
        if name in self.log_z:
            return self.log_z[name]
        return math.fsum(own) / len(own) if own else 0.0

    def update(self, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """Move the normalisers of this step's prompts, those of all ranks; all ranks call this."""
        gathered: dict[str, list[float]] = defaultdict(list)
        for part in all_gather(dict(self.pending), current()):
            for name, values in part.items():
                gathered[name] += values
        self.pending.clear()
        for name, values in gathered.items():
            first = math.fsum(values) / len(values)
            # Sorted: their sum depends on the order to the last bit.
            estimates = torch.tensor(sorted(values), dtype=torch.float64)
            self.log_z[name] = moved(self.log_z.get(name, first), estimates, self.options.lr)
        if not gathered:
            return {}
        now = [self.log_z[name] for name in gathered]
        return {"log_z": math.fsum(now) / len(now), "prompts": float(len(self.log_z))}

    def state_dict(self) -> Mapping[str, Any]:
        """log Z by prompt."""
        return {"log_z": dict(self.log_z)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with them."""
        self.log_z = dict(state["log_z"])
