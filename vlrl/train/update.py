"""One update: from rollouts with advantages to optimizer steps.

minibatch (whole groups) -> chunks (one forward each, as many on every rank)
  -> policy.evaluate -> objective + beta * KL - c * entropy -> sum / ONE global denominator
  -> backward, chunk by chunk -> all finite? -> one optimizer step
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from vlrl.algo import aggregate
from vlrl.algo.correction import unbiased_kl
from vlrl.algo.objectives import OBJECTIVES, REGRESSIONS, ClipRange, Objective
from vlrl.algo.trajectory_balance import trajectory_balance
from vlrl.config.schema import AlgoConfig
from vlrl.distributed.comm import World, all_gather, all_sum
from vlrl.distributed.engine import Engine
from vlrl.distributed.waiting import waiting
from vlrl.errors import NonFiniteError
from vlrl.log.metrics import Meter
from vlrl.protocols import Evaluation, Policy, T, Trajectory
from vlrl.train.correcting import corrected
from vlrl.train.passes import Pass, collected, passes


@dataclass(frozen=True)
class Batch(Generic[T]):
    """What one update learns from, on this rank; legend in vlrl/types.py."""

    trajectory: T
    advantage: Tensor
    """[B]; [B, T] where the stages of an answer have their own."""
    row_weight: Tensor
    """Difficulty weight, [B]."""
    kept: Tensor
    """False for rows that the filters took out, [B]."""
    sample_ids: Sequence[str]
    """One per row, named when something is not finite."""
    num_stages: int = 1


def update(
    policy: Policy[T], engine: Engine, batch: Batch[T], algo: AlgoConfig, world: World, meter: Meter
) -> int:
    """Run all epochs and minibatches; returns the number of optimizer steps taken.

    Raises NonFiniteError with the sample ids, before the optimizer step that would spread it.
    """
    parts = _minibatches(batch, algo.num_minibatches)
    # Before the first step the policy is the one that sampled, so its own log-probs serve as the
    # old ones and the ratio is 1 to the last bit. Later steps need them kept.
    one_step = algo.num_epochs * len(parts) == 1
    old: Tensor | None = batch.trajectory.logp
    if algo.old_logp != "rollout":
        old = None if one_step else _old(policy, batch, parts, algo, world)
    num_steps = 0
    for _ in range(algo.num_epochs):
        for rows in parts:
            num_steps += _step(policy, engine, batch, rows, old, algo, world, meter)
    return num_steps


def _step(
    policy: Policy[T],
    engine: Engine,
    batch: Batch[T],
    rows: list[int],
    old: Tensor | None,
    algo: AlgoConfig,
    world: World,
    meter: Meter,
) -> int:
    """One optimizer step over the rows; 0 if no rank has anything to learn from."""
    stage = batch.trajectory.stage
    own = aggregate.denominators(
        batch.trajectory.mask[rows],
        algo.aggregate,
        None if stage is None else stage[rows],
        batch.num_stages,
    )
    totals = torch.tensor(all_sum(own, world), dtype=torch.float64)
    if not totals.any():
        meter.add("update/skipped", [1.0])
        return 0
    losses: list[Tensor] = []
    names: list[list[str]] = []
    values = (batch.advantage, batch.row_weight, old)
    for one in passes(policy, batch.trajectory, rows, world, values):
        loss = _chunk_loss(policy, one, algo, totals, meter if one.is_counted else None)
        losses.append(loss.detach())
        names.append(sorted({batch.sample_ids[b] for b in one.rows}) if one.is_own else [])
        engine.backward(loss if one.is_real else loss * 0.0)
        if one.is_counted:
            meter.add_later("update/loss", loss, 0.0)
    # Read once for all chunks: each value that is read waits for the device.
    finite = torch.stack(losses).isfinite().tolist()
    broken = [
        name
        for some, is_finite in zip(names, finite, strict=True)
        if not is_finite
        for name in some
    ]
    broken = [name for part in all_gather(broken, world) for name in part]
    if broken:
        raise NonFiniteError(
            "the loss is nan or inf; the optimizer step was not taken. "
            f"Samples: {', '.join(broken)}"
        )
    # The chunks of all ranks add up to the loss of one step: together they count once.
    meter.add_sum("update/loss", 0.0, 1 / world.size)
    meter.maximum("update/lr", engine.lr)
    norm = engine.step(sorted({batch.sample_ids[b] for b in rows}))
    if norm == norm:
        meter.maximum("update/grad_norm", norm)
    meter.add("update/skipped", [0.0])
    return 1


def _chunk_loss(
    policy: Policy[T], one: Pass[T], algo: AlgoConfig, totals: Tensor, meter: Meter | None
) -> Tensor:
    """This chunk's share of the step's loss: its sum divided by the global denominator."""
    part, device = one.trajectory, policy.device
    advantage, row_weight, old = one.values
    assert advantage is not None
    assert row_weight is not None
    mask, advantage = part.mask.to(device), advantage.to(device)
    kept = None if old is None else old.to(device)
    if algo.objective in REGRESSIONS:
        loss = _regression_loss(policy, part, advantage, kept, algo, meter)
    else:
        loss = _surrogate_loss(policy, part, advantage, mask, kept, algo, meter)
    weight = row_weight.to(device)
    return aggregate.share(
        loss, mask, algo.aggregate, weight, algo.constant_length, totals, part.stage
    )


def _surrogate_loss(
    policy: Policy[T],
    part: T,
    advantage: Tensor,
    mask: Tensor,
    old_logp: Tensor | None,
    algo: AlgoConfig,
    meter: Meter | None,
) -> Tensor:
    """Objectives on the ratio of log-probs, [B, T]."""
    now = policy.evaluate(part, with_entropy_grad=algo.entropy_coef > 0)
    old = now.logp.detach() if old_logp is None else old_logp
    bounds = ClipRange(algo.clip.low, algo.clip.high)
    if algo.objective == "trajectory_balance":
        per_token = algo.balance.per_token
        objective = trajectory_balance(now.logp, old, advantage, mask, bounds, per_token=per_token)
    else:
        objective = OBJECTIVES[algo.objective](now.logp, old, advantage, mask, bounds)
    loss, kl = objective.loss, now.kl
    if now.action_weight is not None:
        loss = loss * now.action_weight
    if algo.rollout_correction is not None:
        sampled = part.logp.to(mask.device)
        loss = loss * corrected(
            now.logp, old.detach(), sampled, mask, advantage, algo.rollout_correction, meter
        )
        if kl is not None and algo.rollout_correction.unbiased_kl:
            kl = unbiased_kl(kl, now.logp, sampled)
    if kl is not None:
        loss = loss + algo.kl_beta * kl
    if algo.entropy_coef and now.entropy is not None:
        loss = loss - algo.entropy_coef * now.entropy
    if meter is not None:
        _record(meter, now, objective, part, mask)
    return loss


def _regression_loss(
    policy: Policy[T],
    part: T,
    advantage: Tensor,
    old: Tensor | None,
    algo: AlgoConfig,
    meter: Meter | None,
) -> Tensor:
    """Objectives without log-probs, [B, T]."""
    now = policy.regression(part, advantage, old)
    loss = now.loss
    if now.kl is not None:
        loss = loss + algo.kl_beta * now.kl
        if meter is not None:
            meter.add_later("update/kl", now.kl.sum(), float(now.kl.numel()))
    return loss


def _record(
    meter: Meter, now: Evaluation, objective: Objective, part: Trajectory, mask: Tensor
) -> None:
    count = float(part.mask.sum())  # on the CPU

    def mean(name: str, values: Tensor) -> None:
        meter.add_later(name, (values.detach() * mask).sum(), count)

    mean("update/ratio", objective.ratio)
    mean("update/clip_fraction", objective.clipped.float())
    meter.maximum_later("update/ratio_max", objective.ratio.detach().masked_fill(~mask, 0.0).max())
    if now.entropy is not None:
        mean("update/entropy", now.entropy)
    if now.kl is not None:
        mean("update/kl", now.kl)
    gap = (now.logp.detach() - part.logp.to(mask.device)).abs()
    mean("update/sampling_gap", gap)


def _minibatches(batch: Batch[T], count: int) -> list[list[int]]:
    """Kept rows in `count` parts of whole groups; a part may be empty, the count never differs."""
    group = batch.trajectory.group.tolist()
    groups = sorted(set(group))
    place = {g: i * count // len(groups) for i, g in enumerate(groups)}
    parts: list[list[int]] = [[] for _ in range(count)]
    for row, g in enumerate(group):
        if bool(batch.kept[row]):
            parts[place[g]].append(row)
    return parts


@torch.no_grad()
def _old(
    policy: Policy[T], batch: Batch[T], parts: list[list[int]], algo: AlgoConfig, world: World
) -> Tensor:
    """What the objective compares with, before the first step, in the very chunks of the update.

    Log-probs [B, T], nats; velocities [B, T, C, H, W] for regressions.
    """
    trajectory = batch.trajectory

    def find(chunk: T) -> Tensor:
        if algo.objective in REGRESSIONS:
            return policy.regression_target(chunk)
        return policy.evaluate(chunk).logp.cpu()

    old = collected(policy, trajectory, parts, world, find)
    return torch.zeros(trajectory.mask.shape) if old is None else old


@waiting("the reference's passes")
@torch.no_grad()
def with_reference(policy: Policy[T], trajectory: T, world: World) -> T:
    """The trajectory with what its KL needs of the reference policy, computed once per rollout."""
    rows = list(range(len(trajectory)))
    return trajectory.with_reference(collected(policy, trajectory, [rows], world, policy.reference))
