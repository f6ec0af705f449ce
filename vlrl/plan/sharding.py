"""What DeepSpeed keeps on each GPU, by stage of ZeRO (arXiv 1910.02054), in bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlrl.config.shipped import sharding_file

HALF, FULL = 2, 4
"""Bytes of a number in bf16 and in fp32."""
PACKED = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes in NF4: four bits, and scales of 64 in eight bits, of which 256 share one in fp32
(QLoRA, arXiv 2305.14314)."""


@dataclass(frozen=True)
class Sharding:
    """The parts of a sharding file that memory and time depend on."""

    stage: int
    bucket: int
    """Numbers in the buffer that gradients are reduced from."""
    max_live: int
    """Weights that stage 3 has gathered at a time in an update, in numbers."""
    offloads_optimizer: bool
    offloads_weights: bool
    overlaps: bool

    @classmethod
    def read(cls, name: str) -> Sharding:
        """The file of `dist.deepspeed`; DeepSpeed's defaults for what it does not set."""
        settings = json.loads(sharding_file(name).read_text(encoding="utf-8"))
        zero: Mapping[str, Any] = settings.get("zero_optimization", {})
        return cls(
            stage=int(zero.get("stage", 0)),
            bucket=int(zero.get("reduce_bucket_size", 500_000_000)),
            max_live=int(zero.get("stage3_max_live_parameters", 1_000_000_000)),
            offloads_optimizer="offload_optimizer" in zero,
            offloads_weights="offload_param" in zero,
            overlaps=bool(zero.get("overlap_comm", False)),
        )


@dataclass(frozen=True)
class Weights:
    """Numbers of a module's parameters."""

    num_trained: int
    num_frozen: int
    largest: int
    """Of the largest one."""
    num_packed: int = 0
    """Of the frozen ones, those in four bits."""

    def bytes(self, size: int) -> float:
        """Of all, where a number takes `size` bytes."""
        return (self.num - self.num_packed) * size + self.num_packed * PACKED

    @property
    def num(self) -> int:
        """All of them."""
        return self.num_trained + self.num_frozen


def weight_bytes(weights: Weights, sharding: Sharding, size: int, num_gpus: int) -> float:
    """A W bytes; stage 3 shards them, A W / n. size: W, bytes of a number."""
    if sharding.stage < 3:
        return weights.bytes(size)
    return 0.0 if sharding.offloads_weights else weights.bytes(size) / num_gpus


def optimizer_bytes(weights: Weights, sharding: Sharding, size: int, num_gpus: int) -> float:
    """Adam's two averages, and float32 weights: 8 N + 4 N bytes, from stage 1 on divided by n.

    DeepSpeed keeps the copy of weights that are float32 already at stages 1 and 2 too.
    """
    if sharding.offloads_optimizer:
        return 0.0
    has_copy = size == HALF or sharding.stage in (1, 2)
    whole = weights.num_trained * (2 * FULL + (FULL if has_copy else 0))
    return whole / num_gpus if sharding.stage else float(whole)


def gradient_bytes(weights: Weights, sharding: Sharding, size: int, num_gpus: int) -> float:
    """Sums over chunks: W N at stages 0 and 1 (in bf16 a float32 sum beside them), then 4 N / n."""
    num = weights.num_trained
    if sharding.stage >= 2:
        return 0.0 if sharding.offloads_optimizer else num * FULL / num_gpus
    if sharding.stage == 1:
        return num * size + num * size / num_gpus
    return float(num * (size if size == FULL else size + FULL))


def bucket_bytes(weights: Weights, sharding: Sharding, size: int) -> float:
    """What gradients are copied to before they are reduced: set aside whole, twice with overlap."""
    if sharding.stage < 2:
        return 0.0
    return sharding.bucket * size * (2 if sharding.overlaps and sharding.stage == 2 else 1)


def live_bytes(weights: Weights, sharding: Sharding, size: int) -> float:
    """Weights that stage 3 has gathered at a time in an update."""
    if sharding.stage < 3:
        return 0.0
    return size * min(weights.num, max(sharding.max_live, weights.largest))


def gathered_bytes(weights: Weights, sharding: Sharding, size: int, num_gpus: int) -> float:
    """Stage 3: all weights beside the shards, while sampling."""
    return weights.bytes(size) if sharding.stage == 3 else 0.0
