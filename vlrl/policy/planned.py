"""What planned policies share: types, and rows that are sampled together."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from vlrl.protocols.planned import PlannedRun

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
Module = TypeVar("Module", bound=nn.Module)


def cast(module: Module, dtype: torch.dtype) -> Module:
    """The module with all parameters of this type; peft leaves adapters in float32 on meta."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    return module


def rows_at_once(run: PlannedRun, batch_size: int) -> int:
    """Rows of a batch of whole groups, as `vlrl/policy/batches.py` makes them."""
    return min(run.num_rows, max(1, batch_size // run.group_size) * run.group_size)
