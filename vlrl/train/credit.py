"""Which action gets which advantage: those of its stage, over all ranks where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from vlrl.algo.advantages import advantages, group_statistics
from vlrl.algo.gdpo import added_zscores, over_batch
from vlrl.config.schema import AlgoConfig
from vlrl.distributed.comm import World, all_sum
from vlrl.errors import ConfigError
from vlrl.protocols import Policy, T, Task
from vlrl.train.scoring import terms_of
from vlrl.types import Rollout


def stage_advantages(
    rewards: Tensor,
    group: Tensor,
    algo: AlgoConfig,
    world: World,
    rollouts: Sequence[Rollout] = (),
) -> Tensor:
    """Advantages of every stage by itself, [B, S] -> [B, S]; all ranks call this.

    rollouts: whose scores have the rewards of a sum, for `gdpo`.
    """
    columns = []
    if algo.advantage == "gdpo":
        return _clipped(_gdpo(rollouts, group, algo.advantage_eps, world)[:, None], algo)
    for column in rewards.unbind(1):
        std = _batch_std(column, group, algo.advantage, world)
        columns.append(
            advantages(
                column,
                group,
                algo.advantage,
                eps=algo.advantage_eps,
                batch_std=std,
                population=algo.population_std,
            )
        )
    return _clipped(torch.stack(columns, 1), algo)


def _clipped(advantage: Tensor, algo: AlgoConfig) -> Tensor:
    if not algo.advantage_clip:
        return advantage
    return advantage.clamp(-algo.advantage_clip, algo.advantage_clip)


def _gdpo(rollouts: Sequence[Rollout], group: Tensor, eps: float, world: World) -> Tensor:
    """Each reward normalised in its group, added, and normalised over all ranks, [B]."""
    rewards, weights = terms_of(rollouts)
    added = added_zscores(rewards, weights, group, eps)
    own = added[~added.isnan()]
    total, count = all_sum([float(own.sum()), float(len(own))], world)
    mean = total / max(count, 1.0)
    (squares,) = all_sum([float((own - mean).square().sum())], world)
    return over_batch(added, mean, (squares / max(count - 1.0, 1.0)) ** 0.5, eps)


def _batch_std(rewards: Tensor, group: Tensor, kind: str, world: World) -> float | None:
    """The one number over all ranks that `batch_std` and `global_std` divide by."""
    if kind not in ("batch_std", "global_std"):
        return None
    applies = ~rewards.isnan()
    values = rewards.double()[applies]
    if kind == "batch_std":  # unbiased, of the group-centred rewards
        values = values - group_statistics(rewards, group)[0][applies]
        fewer = 1.0
    else:  # of the rewards themselves, as numpy's std
        total, count = all_sum([float(values.sum()), float(len(values))], world)
        values = values - total / max(count, 1.0)
        fewer = 0.0
    total, count = all_sum([float(values.square().sum()), float(len(values))], world)
    return (total / max(count - fewer, 1.0)) ** 0.5


def in_stages(policy: Policy[T], task: Task, trajectory: T, num_stages: int) -> T:
    """The trajectory with the stage of every action; ConfigError where task or policy can't say."""
    if not task.finds_stages:
        raise ConfigError(
            "reward: one of several stages needs answers that have stages: of voxel_tokens with "
            "policy.refine, or of a task that finds them in a text (video_grounding)"
        )
    return policy.in_stages(trajectory, partial(task.stage_starts, num_stages=num_stages))
