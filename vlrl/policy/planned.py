"""What planned policies share: types, and rows that are sampled together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vlrl.protocols.planned import PlannedRun


class ShapesOnly:
    """The exchanges of vlrl/distributed/sequence.py on the meta device, counted and not made."""

    def __init__(self, size: int) -> None:
        self.size, self.rank = size, size - 1
        """The last place, which predicts the most actions."""
        self.sent_bytes = 0.0

    def to_heads(self, x: Tensor) -> Tensor:
        """[1, L/N, H, D] -> [1, L, H/N, D]."""
        _, length, heads, width = x.shape
        return self._exchanged(x, (1, length * self.size, heads // self.size, width))

    def to_columns(self, x: Tensor) -> Tensor:
        """[1, L, H/N, D] -> [1, L/N, H, D]."""
        _, length, heads, width = x.shape
        return self._exchanged(x, (1, length // self.size, heads * self.size, width))

    def gathered(self, part: Tensor, sizes: Sequence[int]) -> Tensor:
        """[K, sizes[rank], D] -> [K, sum of sizes, D]."""
        others = sum(sizes) - part.shape[1]
        self.sent_bytes += part.numel() * part.element_size() * (self.size - 1)
        return torch.cat([part, part.new_empty(part.shape[0], others, part.shape[2])], 1)

    def whole(self, part: Tensor) -> Tensor:
        """As many."""
        return part.clone()

    def _exchanged(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        found: Tensor = _Exchange.apply(x, shape, self)
        return found

    def copied(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """What DeepSpeed's all-to-all copies: what is sent, what comes, and that in order."""
        self.sent_bytes += x.numel() * x.element_size() * (1 - 1 / self.size)
        sent = x.clone(memory_format=torch.contiguous_format)
        return torch.empty_like(sent).view(shape).clone()


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...], sequence: ShapesOnly) -> Tensor:
        ctx.shape, ctx.sequence = x.shape, sequence
        return sequence.copied(x, shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.sequence.copied(grads[0], ctx.shape), None, None


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
