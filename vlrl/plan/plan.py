"""A plan of a run, from its config and the config of its model alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, did_you_mean, first_line
from vlrl.plan.fit import Plan
from vlrl.plan.gpus import GPUS, usable_bytes
from vlrl.plan.memory import always_bytes, sampling_memory, update_memory, weights_of
from vlrl.plan.scorers import scorer_bytes
from vlrl.plan.seconds import Known, step_seconds
from vlrl.plan.sharding import FULL, HALF, Sharding, bucket_bytes, gathered_bytes, live_bytes
from vlrl.protocols import PolicyOptions, Reward
from vlrl.protocols.planned import PlannedPolicy, PlannedRun

ROUND_TOKENS = 1024
"""Suggested budgets are multiples of it."""


def plan_run(
    config: RunConfig,
    options: PolicyOptions,
    gpu: str,
    num_gpus: int,
    rewards: Sequence[Reward] = (),
) -> Plan | None:
    """The plan on so many GPUs of a kind; None where the policy says nothing of itself.

    rewards: whose models take room on every GPU, those of all stages.

    Raises ConfigError for an unknown kind, a number that does not divide the prompts, and a model
    that needs data.
    """
    if gpu not in GPUS:
        raise ConfigError(f"plan.gpu: {gpu!r}; {did_you_mean(gpu, GPUS)}")
    if config.algo.num_prompts % num_gpus:
        raise ConfigError(
            f"plan.num_gpus ({num_gpus}) must divide algo.num_prompts ({config.algo.num_prompts}): "
            "a group never crosses a rank"
        )
    if num_gpus % config.dist.sequence_parallel:
        raise ConfigError(
            f"dist.sequence_parallel ({config.dist.sequence_parallel}) must divide plan.num_gpus "
            f"({num_gpus})"
        )
    policy = options.planned(planned_run(config, num_gpus, flash=True))
    if policy is None:
        return None
    scorers, unknown = scorer_bytes(*rewards)
    try:
        plan = _plan(config, policy, gpu, num_gpus, scorers)
    except NotImplementedError as error:  # torch's, where a shape depends on data
        raise ConfigError(
            "no plan: a pass of this model has shapes that depend on its data "
            f"({first_line(error)[:120]}); leave plan.gpu out"
        ) from error
    plan = replace(plan, unknown_scorers=tuple(unknown))
    return replace(plan, may_share=_may_share(options) and num_gpus > plan.num_sharers)


def _may_share(options: PolicyOptions) -> bool:
    """Whether GPUs can share the policy's rows."""
    try:
        options.check_sequence_parallel()
    except ConfigError:
        return False
    return True


def planned_run(config: RunConfig, num_gpus: int, *, flash: bool) -> PlannedRun:
    """What the policy has to know of the run."""
    algo, dist, plan = config.algo, config.dist, config.plan
    return PlannedRun(
        precision=dist.precision,
        checkpointing=dist.gradient_checkpointing,
        max_tokens_per_chunk=dist.max_tokens_per_chunk * dist.sequence_parallel,
        num_sequence_gpus=dist.sequence_parallel,
        group_size=algo.group_size,
        num_rows=algo.num_prompts // num_gpus * algo.group_size,
        num_levels=algo.nft.num_levels if algo.objective == "nft" else None,
        flash=flash,
        max_prompt_tokens=plan.max_prompt_tokens,
        mean_prompt_tokens=plan.mean_prompt_tokens,
        mean_answer_tokens=plan.mean_answer_tokens,
    )


def _plan(
    config: RunConfig, policy: PlannedPolicy, gpu: str, num_gpus: int, scorers: float
) -> Plan:
    kind, sharding = GPUS[gpu], Sharding.read(config.dist.deepspeed)
    size = HALF if config.dist.precision == "bf16" else FULL
    weights, room = weights_of(policy), usable_bytes(kind)
    always = always_bytes(config, policy, weights, sharding, size, num_gpus)
    always["rewards' models"] = scorers
    room_left = room - sum(always.values())
    update = {
        "gathered layers": live_bytes(weights, sharding, size),
        "gradient buckets": bucket_bytes(weights, sharding, size),
    }
    sharers = policy.run.num_sequence_gpus
    memory = update_memory(policy, policy.run.max_tokens_per_chunk)
    largest_chunk = int(memory.line.largest(room_left - sum(update.values())) / sharers)
    gathered = gathered_bytes(weights, sharding, size, num_gpus)
    rows = sampling_memory(policy, config.algo.group_size)
    step_tokens = policy.num_step_tokens(largest=False)
    found = Known(
        training=None if policy.has_typical_lengths or sharers > 1 else memory.cost,
        sampling=None if policy.has_typical_lengths else rows.costs,
    )
    return Plan(
        gpu=gpu,
        num_gpus=num_gpus,
        usable=room,
        weights=weights,
        always=always,
        sampling={
            "gathered weights": gathered,
            "caches": rows.kept,
            "sampling's passes": rows.working,
        },
        update={**update, "activations and logits": memory.cost.peak_bytes},
        seconds=step_seconds(config, policy, kind, sharding, weights, num_gpus, found),
        chunk_tokens=memory.num_tokens,
        num_chunks=sharers * max(1, math.ceil(step_tokens / memory.num_tokens)),
        num_sharers=sharers,
        rows_at_once=policy.num_rows_at_once,
        smallest_chunk=math.ceil(policy.chunk(1, largest=True).num_tokens / sharers),
        largest_chunk=max(0, _rounded(largest_chunk)),
        largest_batch=rows.largest(room_left - gathered, policy.run.num_rows),
    )


def _rounded(tokens: int) -> int:
    return tokens - tokens % ROUND_TOKENS if tokens > ROUND_TOKENS else tokens
