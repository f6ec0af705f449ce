"""What checkpoints that run on this machine have in common."""

from __future__ import annotations

from typing import Literal

import torch

from vlrl.distributed.comm import World


def dtype_of(precision: Literal["bf16", "fp32"] | None, world: World) -> torch.dtype:
    """The number format of the weights; without a choice bf16 on a GPU, fp32 elsewhere."""
    usual = "bf16" if world.device.type == "cuda" else "fp32"
    return torch.bfloat16 if (precision or usual) == "bf16" else torch.float32
