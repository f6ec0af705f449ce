"""Seconds of a step by part, estimated from what its passes compute, move and launch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlrl.config.schema import RunConfig
from vlrl.plan import gpus as kinds
from vlrl.plan.gpus import Gpu
from vlrl.plan.measure import Cost, inference_cost, sampling_costs, training_cost
from vlrl.plan.memory import modules_of
from vlrl.plan.sharding import FULL, HALF, Sharding, Weights
from vlrl.protocols.planned import Chunk, PlannedPolicy


@dataclass(frozen=True)
class Known:
    """What was measured already, where typical lengths are the longest ones."""

    training: Cost | None
    sampling: Sequence[Cost] | None


def step_seconds(
    config: RunConfig,
    policy: PlannedPolicy,
    gpu: Gpu,
    sharding: Sharding,
    weights: Weights,
    num_gpus: int,
    known: Known,
) -> dict[str, float]:
    """Seconds of a step by part; each pass is as slow as its arithmetic, traffic or launches."""
    algo, rows = config.algo, policy.num_rows_at_once
    size = HALF if config.dist.precision == "bf16" else FULL
    batches = policy.num_row_batches
    passes = policy.sampling(rows, largest=False)
    costs = known.sampling or sampling_costs(modules_of(policy), passes)
    sampling = batches * sum(
        one.times * pass_seconds(cost, gpu, recorded=one.is_recorded)
        for one, cost in zip(passes, costs, strict=True)
    )
    total = policy.num_step_tokens(largest=False)
    chunk = policy.chunk(min(total, policy.run.max_tokens_per_chunk), largest=False)
    # A GPU that shares its rows goes through those of the others too.
    share = total / chunk.num_tokens * policy.run.num_sequence_gpus
    forward = _chunk_seconds(policy, chunk, inference_cost, gpu)
    if known.training is not None:
        both = pass_seconds(known.training, gpu)
    else:
        both = _chunk_seconds(policy, chunk, training_cost, gpu)
    gather = 0.0
    if sharding.stage == 3:
        gather = weights.num * size * (1 - 1 / num_gpus) / (gpu.link * kinds.SUSTAINED_LINK)
    chunks = max(1, math.ceil(share))

    def spread(compute: float, gathers: int) -> float:
        """Passes over a step's tokens, each chunk with so many gathers of all weights."""
        parts = compute * share, chunks * gathers * gather
        return max(parts) if sharding.overlaps else sum(parts)

    steps = algo.num_epochs * algo.num_minibatches
    reduced = weights.num_trained * size * 2 * (1 - 1 / num_gpus)
    sending = chunks * reduced / (gpu.link * kinds.SUSTAINED_LINK)
    found = {"sampling": sampling + gather}
    if algo.needs_reference:
        found["reference"] = spread(forward, 1)
    if steps > 1 and algo.old_logp == "recompute":
        found["old log-probs"] = spread(forward, 1)
    found["update"] = algo.num_epochs * (spread(both, 2) + sending)
    return found


def _chunk_seconds(
    policy: PlannedPolicy, chunk: Chunk, measure: Callable[..., Cost], gpu: Gpu
) -> float:
    """A pass, and after it what it exchanges with the GPUs that share its rows."""
    before = policy.exchanged_bytes
    seconds = pass_seconds(measure(modules_of(policy), chunk.forward), gpu)
    return seconds + (policy.exchanged_bytes - before) / (gpu.link * kinds.SUSTAINED_LINK)


def pass_seconds(cost: Cost, gpu: Gpu, *, recorded: bool = False) -> float:
    """max(arithmetic, traffic, launches), each at its sustained rate."""
    launches = (
        cost.num_kernels * kinds.RECORDED_KERNEL_S if recorded else cost.num_calls * kinds.CALL_S
    )
    return max(
        cost.flops / (gpu.flops * kinds.SUSTAINED_FLOPS),
        cost.moved_bytes / (gpu.bandwidth * kinds.SUSTAINED_BANDWIDTH),
        launches,
    )
