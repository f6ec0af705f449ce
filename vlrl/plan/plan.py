"""A plan of a run: memory of each GPU by part and phase, seconds of a step by part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, did_you_mean
from vlrl.plan import gpus as kinds
from vlrl.plan.gpus import GPUS, Gpu, usable_bytes
from vlrl.plan.measure import Cost, inference_cost, sampling_costs, training_cost
from vlrl.plan.sharding import (
    FULL,
    HALF,
    Sharding,
    Weights,
    bucket_bytes,
    gathered_bytes,
    gradient_bytes,
    live_bytes,
    optimizer_bytes,
    weight_bytes,
)
from vlrl.protocols import PolicyOptions
from vlrl.protocols.planned import PlannedPolicy, PlannedRun

ROUND_TOKENS = 1024
"""Suggested budgets are multiples of it."""


@dataclass(frozen=True)
class Line:
    """Something that grows with a setting: bytes = start + slope x setting."""

    start: float
    slope: float

    @classmethod
    def through(cls, small: tuple[float, float], large: tuple[float, float]) -> Line:
        """The line through two points (setting, bytes); from zero where both are one."""
        if large[0] <= small[0]:
            return cls(0.0, large[1] / large[0])
        slope = (large[1] - small[1]) / (large[0] - small[0])
        return cls(large[1] - slope * large[0], slope)

    def largest(self, num_bytes: float) -> float:
        """The largest setting within so many bytes; below 0 where none is."""
        if self.slope <= 0:
            return math.inf if self.start <= num_bytes else 0.0
        return (num_bytes - self.start) / self.slope


@dataclass(frozen=True)
class Plan:
    """What a run takes on each of its GPUs."""

    gpu: str
    num_gpus: int
    usable: float
    """Bytes that tensors can take."""
    weights: Weights
    always: Mapping[str, float]
    """Bytes by part, in memory in every phase."""
    sampling: Mapping[str, float]
    update: Mapping[str, float]
    """Bytes by part, in that phase alone."""
    seconds: Mapping[str, float]
    """Of a step, by part."""
    chunk_tokens: int
    """Tokens of the chunk whose memory `update` states."""
    num_chunks: int
    """Chunks of a rank and step."""
    rows_at_once: int
    largest_chunk: int
    """The largest `dist.max_tokens_per_chunk` that fits; 0: none."""
    largest_batch: int
    """The most of a rank's rows that can be sampled together; 0: none."""

    def phases(self) -> dict[str, float]:
        """Bytes of each phase."""
        always = sum(self.always.values())
        return {
            "sampling": always + sum(self.sampling.values()),
            "update": always + sum(self.update.values()),
        }

    @property
    def peak(self) -> float:
        """Bytes at the fullest moment."""
        return max(self.phases().values())

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.peak <= self.usable


WEIGHTS = "weights"
ACTIVATIONS = "activations and logits of a chunk"
GATHERED = "gathered weights"


def plan_run(config: RunConfig, options: PolicyOptions, gpu: str, num_gpus: int) -> Plan | None:
    """The plan on so many GPUs of a kind; None where the policy says nothing of itself.

    Raises ConfigError for an unknown kind, and a number that does not divide the prompts.
    """
    if gpu not in GPUS:
        raise ConfigError(f"plan.gpu: {gpu!r}; {did_you_mean(gpu, GPUS)}")
    if config.algo.num_prompts % num_gpus:
        raise ConfigError(
            f"plan.num_gpus ({num_gpus}) must divide algo.num_prompts ({config.algo.num_prompts}): "
            "a group never crosses a rank"
        )
    policy = options.planned(planned_run(config, num_gpus, flash=True))
    if policy is None:
        return None
    return _plan(config, policy, gpu, num_gpus)


def planned_run(config: RunConfig, num_gpus: int, *, flash: bool) -> PlannedRun:
    """What the policy has to know of the run."""
    algo, dist, plan = config.algo, config.dist, config.plan
    return PlannedRun(
        precision=dist.precision,
        checkpointing=dist.gradient_checkpointing,
        max_tokens_per_chunk=dist.max_tokens_per_chunk,
        group_size=algo.group_size,
        num_rows=algo.num_prompts // num_gpus * algo.group_size,
        num_levels=algo.nft.num_levels if algo.objective == "nft" else None,
        flash=flash,
        max_prompt_tokens=plan.max_prompt_tokens,
        mean_prompt_tokens=plan.mean_prompt_tokens,
        mean_answer_tokens=plan.mean_answer_tokens,
    )


def weights_of(module: nn.Module) -> Weights:
    """Numbers of a module's parameters."""
    own = list(module.parameters())
    trained = sum(p.numel() for p in own if p.requires_grad)
    return Weights(trained, sum(p.numel() for p in own) - trained, max(p.numel() for p in own))


def _plan(config: RunConfig, policy: PlannedPolicy, gpu: str, num_gpus: int) -> Plan:
    kind, sharding = GPUS[gpu], Sharding.read(config.dist.deepspeed)
    size = HALF if config.dist.precision == "bf16" else FULL
    weights, room = weights_of(policy.module), usable_bytes(kind)
    always = always_bytes(config, policy, weights, sharding, size, num_gpus)
    room_left = room - sum(always.values())
    update = {
        "gathered layers": live_bytes(weights, sharding, size),
        "gradient buckets": bucket_bytes(weights, sharding, size),
    }
    memory = update_memory(policy, config.dist.max_tokens_per_chunk)
    largest_chunk = int(memory.line.largest(room_left - sum(update.values())))
    gathered = gathered_bytes(weights, sharding, size, num_gpus)
    rows = sampling_memory(policy, config.algo.group_size)
    found = _Costs(
        training=None if policy.has_typical_lengths else memory.cost,
        sampling=None if policy.has_typical_lengths else rows.costs,
    )
    return Plan(
        gpu=gpu,
        num_gpus=num_gpus,
        usable=room,
        weights=weights,
        always=always,
        sampling={GATHERED: gathered, "caches": rows.kept, "sampling's passes": rows.working},
        update={**update, ACTIVATIONS: memory.cost.peak_bytes},
        seconds=_seconds(config, policy, kind, sharding, weights, num_gpus, found),
        chunk_tokens=memory.num_tokens,
        num_chunks=max(1, math.ceil(policy.num_step_tokens / memory.num_tokens)),
        rows_at_once=policy.num_rows_at_once,
        largest_chunk=max(0, _rounded(largest_chunk)),
        largest_batch=rows.largest(room_left - gathered, policy.run.num_rows),
    )


def _rounded(tokens: int) -> int:
    return tokens - tokens % ROUND_TOKENS if tokens > ROUND_TOKENS else tokens


def always_bytes(
    config: RunConfig,
    policy: PlannedPolicy,
    weights: Weights,
    sharding: Sharding,
    size: int,
    num_gpus: int,
) -> dict[str, float]:
    """What is in memory in every phase, by part."""
    shared = num_gpus if sharding.stage == 3 else 1
    average = weights.num_trained * FULL / shared if config.optim.ema_decay else 0.0
    copy = config.algo.kl_beta > 0 and policy.has_reference_copy
    reference = weights.num * size / shared if copy else 0.0
    others = sum(p.numel() * p.element_size() for m in policy.others for p in m.parameters())
    return {
        WEIGHTS: weight_bytes(weights, sharding, size, num_gpus),
        "gradients": gradient_bytes(weights, sharding, size, num_gpus),
        "optimizer": optimizer_bytes(weights, sharding, size, num_gpus),
        "average of the weights": average,
        "reference model": reference,
        "decoders": float(others),
    }


def _modules(policy: PlannedPolicy) -> list[nn.Module]:
    return [policy.module, *policy.others]


@dataclass(frozen=True)
class UpdateMemory:
    """The fullest chunk of an update."""

    num_tokens: int
    cost: Cost
    line: Line
    """Bytes by `dist.max_tokens_per_chunk`."""


def update_memory(policy: PlannedPolicy, budget: int) -> UpdateMemory:
    """Two chunks of the longest prompts and answers: the budget's, and one of half as many."""
    points: list[tuple[int, Cost]] = []
    for num_tokens in (budget // 2, budget):
        chunk = policy.chunk(num_tokens, largest=True)
        if not points or chunk.num_tokens > points[0][0]:
            points.append((chunk.num_tokens, training_cost(_modules(policy), chunk.forward)))
    (small, less), (large, more) = points[0], points[-1]
    line = Line.through((small, less.peak_bytes), (large, more.peak_bytes))
    return UpdateMemory(large, more, line)


@dataclass(frozen=True)
class SamplingMemory:
    """The fullest batch of sampling."""

    costs: Sequence[Cost]
    lines: Sequence[Line]
    """Bytes by rows, of each pass."""

    @property
    def kept(self) -> float:
        """Caches."""
        return max(cost.kept_bytes for cost in self.costs)

    @property
    def working(self) -> float:
        """What passes need beside them."""
        return max(cost.peak_bytes for cost in self.costs) - self.kept

    def largest(self, num_bytes: float, num_rows: int) -> int:
        """The most rows within so many bytes, of so many that a rank has."""
        return max(0, int(min(num_rows, *(line.largest(num_bytes) for line in self.lines))))


def sampling_memory(policy: PlannedPolicy, group: int) -> SamplingMemory:
    """Two batches of the longest prompts and answers: the options', and a larger or smaller one."""
    rows = policy.num_rows_at_once
    other = rows + group if rows <= group else group
    costs = {
        num: sampling_costs(_modules(policy), policy.sampling(num, largest=True))
        for num in (rows, other)
    }
    small, large = sorted(costs)
    lines = [
        Line.through((small, less.peak_bytes), (large, more.peak_bytes))
        for less, more in zip(costs[small], costs[large], strict=True)
    ]
    return SamplingMemory(costs[rows], lines)


def _modules(policy: PlannedPolicy) -> list[nn.Module]:
    return [policy.module, *policy.others]


@dataclass(frozen=True)
class _Costs:
    """What was measured already, where typical lengths are the longest ones."""

    training: Cost | None
    sampling: Sequence[Cost] | None


def _seconds(
    config: RunConfig,
    policy: PlannedPolicy,
    gpu: Gpu,
    sharding: Sharding,
    weights: Weights,
    num_gpus: int,
    known: _Costs,
) -> dict[str, float]:
    """Seconds of a step by part; each pass is as slow as its arithmetic, traffic or launches."""
    algo, rows = config.algo, policy.num_rows_at_once
    size = HALF if config.dist.precision == "bf16" else FULL
    batches = policy.num_row_batches
    passes = policy.sampling(rows, largest=False)
    costs = known.sampling or sampling_costs(_modules(policy), passes)
    sampling = batches * sum(
        one.times * pass_seconds(cost, gpu, recorded=one.is_recorded)
        for one, cost in zip(passes, costs, strict=True)
    )
    budget = config.dist.max_tokens_per_chunk
    chunk = policy.chunk(budget, largest=False)
    share = policy.num_step_tokens / chunk.num_tokens
    forward = pass_seconds(inference_cost(_modules(policy), chunk.forward), gpu)
    both = pass_seconds(known.training or training_cost(_modules(policy), chunk.forward), gpu)
    gather = 0.0
    if sharding.stage == 3:
        gather = weights.num * size * (1 - 1 / num_gpus) / (gpu.link * kinds.SUSTAINED_LINK)
    chunks = max(1, math.ceil(share))

    def spread(compute: float, gathers: int) -> float:
        """Passes over a step's tokens, each chunk with so many gathers of all weights."""
        total = compute * share, chunks * gathers * gather
        return max(total) if sharding.overlaps else sum(total)

    steps = algo.num_epochs * algo.num_minibatches
    reduced = weights.num_trained * size * 2 * (1 - 1 / num_gpus)
    sending = chunks * reduced / (gpu.link * kinds.SUSTAINED_LINK)
    found = {"sampling": sampling + gather}
    if algo.kl_beta:
        found["reference"] = spread(forward, 1)
    if steps > 1 and algo.old_logp == "recompute":
        found["old log-probs"] = spread(forward, 1)
    found["update"] = algo.num_epochs * (spread(both, 2) + sending)
    return found


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


def check_fits(plan: Plan, config: RunConfig) -> None:
    """Raise ConfigError for a plan that does not fit, with the keys to change."""
    if plan.fits:
        return
    room = plan.usable
    lines = []
    for phase, size in plan.phases().items():
        if size > room:
            hints = ", or ".join(_hints(plan, config, phase))
            lines.append(
                f"plan: {phase} takes {size / 2**30:.1f} GiB, of {room / 2**30:.1f} that tensors "
                f"can take on each {plan.gpu} ({plan.num_gpus} of them); {hints}"
            )
    raise ConfigError("\n".join(lines))


def _hints(plan: Plan, config: RunConfig, phase: str) -> Sequence[str]:
    if phase == "sampling":
        if plan.largest_batch >= config.algo.group_size:
            groups = plan.largest_batch // config.algo.group_size
            return [f"set policy.sample_batch_size to at most {groups * config.algo.group_size}"]
    else:
        hints = []
        if plan.largest_chunk:
            hints.append(f"set dist.max_tokens_per_chunk to at most {plan.largest_chunk}")
        if not config.dist.gradient_checkpointing:
            hints.append("set dist.gradient_checkpointing: true")
        if hints:
            return hints
    if Sharding.read(config.dist.deepspeed).stage < 3:
        return ["set dist.deepspeed: deepspeed_configs/zero3.json", "train with policy.lora"]
    return ["train with policy.lora", "take GPUs with more memory (plan.gpu)"]
