"""Memory of a planned policy: what lasts, the fullest chunk of an update, a batch of sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from vlrl.config.schema import RunConfig
from vlrl.plan.measure import Cost, sampling_costs, training_cost
from vlrl.plan.sharding import (
    FULL,
    Sharding,
    Weights,
    gradient_bytes,
    optimizer_bytes,
    weight_bytes,
)
from vlrl.protocols.planned import PlannedPolicy


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


def weights_of(policy: PlannedPolicy) -> Weights:
    """Numbers of a policy's parameters."""
    own = list(policy.module.parameters())
    trained = sum(p.numel() for p in own if p.requires_grad)
    frozen = sum(p.numel() for p in own) - trained
    return Weights(trained, frozen, max(p.numel() for p in own), policy.num_packed)


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
    copy = config.algo.needs_reference and policy.has_reference_copy
    reference = weights.bytes(size) / shared if copy else 0.0
    others = sum(p.numel() * p.element_size() for m in policy.others for p in m.parameters())
    return {
        "weights": weight_bytes(weights, sharding, size, num_gpus),
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
    """Two chunks of the longest prompts and answers: the fullest, and one of half as many."""
    budget = min(budget, policy.num_step_tokens(largest=True))
    points: list[tuple[int, Cost]] = []
    for num_tokens in (budget // 2, budget):
        chunk = policy.chunk(num_tokens, largest=True)
        if not points or chunk.num_tokens > points[0][0]:
            points.append((chunk.num_tokens, training_cost(modules_of(policy), chunk.forward)))
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
        num: sampling_costs(modules_of(policy), policy.sampling(num, largest=True))
        for num in (rows, other)
    }
    small, large = sorted(costs)
    lines = [
        Line.through((small, less.peak_bytes), (large, more.peak_bytes))
        for less, more in zip(costs[small], costs[large], strict=True)
    ]
    return SamplingMemory(costs[rows], lines)


def modules_of(policy: PlannedPolicy) -> list[nn.Module]:
    """All that is on the GPU; what is trained comes first."""
    return [policy.module, *policy.others]
