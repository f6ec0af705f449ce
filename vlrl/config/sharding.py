"""The JSON file of `dist.deepspeed`: sharding only, the rest is owned by the run's config."""

from __future__ import annotations

import json
from typing import Any

from vlrl.config.shipped import sharding_file
from vlrl.errors import ConfigError

OWNED = {
    "train_batch_size": "algo.num_prompts",
    "train_micro_batch_size_per_gpu": "dist.max_tokens_per_chunk",
    "gradient_accumulation_steps": "dist.max_tokens_per_chunk",
    "managed_gradient_accumulation": "dist.max_tokens_per_chunk",
    "gradient_clipping": "optim.grad_clip_norm",
    "optimizer": "optim",
    "scheduler": "optim.schedule",
    "bf16": "dist.precision",
    "fp16": "dist.precision (fp32 or bf16)",
}
"""Keys of DeepSpeed's that the run's config sets, each with where."""


def read_sharding(name: str) -> dict[str, Any]:
    """The settings of a sharding file, checked; raises ConfigError."""
    path = sharding_file(name)
    try:
        sharding = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"dist.deepspeed: {path}: not valid JSON: {error}") from error
    if not isinstance(sharding, dict):
        raise ConfigError(
            f"dist.deepspeed: {path}: must be an object, not {type(sharding).__name__}"
        )
    for key in sharding:
        if key in OWNED:
            raise ConfigError(
                f"dist.deepspeed: {path}: {key!r} is owned by the run config; set {OWNED[key]} "
                "there"
            )
    zero = sharding.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, dict) else None
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        raise ConfigError(
            f"dist.deepspeed: {path}: zero_optimization must be an object with `stage` from 0 to 3"
        )
    return sharding
