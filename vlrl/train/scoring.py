"""Rollouts to rewards: the task parses, the reward tree scores, both are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vlrl.log.metrics import Meter
from vlrl.protocols import Reward, Task
from vlrl.reward.tree import score
from vlrl.types import Finish, Rollout


def score_rollouts(task: Task, reward: Reward, rollouts: Sequence[Rollout]) -> Tensor:
    """Parse and score in place -> rewards, float32 [B]; nan where the reward does not apply."""
    for rollout in rollouts:
        rollout.parsed = task.parse(rollout.sample, rollout.output)
    for rollout, result in zip(rollouts, score(reward, rollouts), strict=True):
        rollout.score = result
    values = [r.score.value if r.score is not None else None for r in rollouts]
    return torch.tensor([float("nan") if v is None else v for v in values])


def stage_rewards(rollouts: Sequence[Rollout], num_stages: int) -> Tensor:
    """Rewards of scored rollouts, float32 [B, S], nan where one does not apply.

    A reward that knows no stages has one column.
    """
    rows = []
    for rollout in rollouts:
        score = rollout.score
        values = (None,) * num_stages if score is None else score.stages or (score.value,)
        rows.append([float("nan") if value is None else value for value in values])
    return torch.tensor(rows)


def terms_of(rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
    """The rewards of a sum, float32 [B, K], nan where one does not apply, and weights [K]."""
    terms = [() if rollout.score is None else rollout.score.terms for rollout in rollouts]
    known = next((row for row in terms if row), ())
    absent = tuple((weight, None) for weight, _ in known)
    values = [
        [float("nan") if value is None else value for _, value in row or absent] for row in terms
    ]
    return torch.tensor(values), torch.tensor([weight for weight, _ in known])


def measured(metrics: Mapping[str, Reward], rollouts: Sequence[Rollout]) -> dict[str, list[float]]:
    """Values of rewards that are only measured, by name; nan where one does not apply."""
    return {
        name: [float("nan") if one.value is None else one.value for one in score(metric, rollouts)]
        for name, metric in metrics.items()
    }


def record(meter: Meter, task: Task, rollouts: Sequence[Rollout]) -> None:
    """Rewards, their parts, the task's own metrics and how the answers ended."""
    for rollout in rollouts:
        result = rollout.score
        if result is None or result.value is None:
            meter.add("reward/not_applicable", [1.0])
            continue
        meter.add("reward/not_applicable", [0.0])
        meter.add("reward/mean", [result.value])
        for name, value in result.parts.items():
            meter.add(f"reward/{name}", [value])
    meter.add("rollout/num_actions", [r.num_actions for r in rollouts])
    meter.add("rollout/truncated", [r.finish is Finish.LENGTH for r in rollouts])
    meter.add("rollout/unparsed", [r.parsed is None for r in rollouts])
    for name, values in task.metrics(rollouts).items():
        meter.add(f"rollout/{name}", [v for v in values if v == v])


def record_staleness(meter: Meter, rollouts: Sequence[Rollout], version: int, step: int) -> None:
    """How old answers are at the update: in optimizer steps, and in steps since they were begun."""
    meter.add("rollout/staleness", [version - r.policy_version for r in rollouts])
    meter.add("rollout/steps_ahead", [step - r.begun for r in rollouts])
    meter.maximum("rollout/staleness_max", max(version - r.policy_version for r in rollouts))
    swapped = [r.last_version not in (None, r.policy_version) for r in rollouts]
    meter.add("rollout/swapped", swapped)
