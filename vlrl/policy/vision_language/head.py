"""The language head: logits in float32 from weights of any type, for any number of actions.

In half precision transformers rounds each logit to 8 bits before anything reads it. Here the
product is kept in float32 as it is summed up, without a float32 copy of the weight. All chunks of a
pass are computed inside one call: under ZeRO-3 a call gathers the weight from all ranks, and their
numbers of actions differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import linear

Found = TypeVar("Found")
Logits = Callable[[Tensor], Tensor]

SLICE_ROWS = 8192
"""Rows of the weight that are in float32 at a time, where no product takes two types."""


class LanguageHead(nn.Linear):
    """A language head that also lets a caller compute with its logits while it has its weight."""

    def forward(
        self, hidden: Tensor, over: Callable[[Tensor, Logits], Found] | None = None
    ) -> Tensor | Found:
        """Logits, [..., D] -> float32 [..., V]; or what `over` makes of hidden states and logits.

        over: takes the hidden states and a function from some of them to their logits.
        """
        return self.logits(hidden) if over is None else over(hidden, self.logits)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V], float32 for weights in half precision."""
        if self.weight.dtype not in (torch.bfloat16, torch.float16):
            return linear(hidden, self.weight, self.bias)
        flat = _Float32Product.apply(hidden.flatten(0, -2), self.weight)
        out = flat.unflatten(0, hidden.shape[:-1])
        return out if self.bias is None else out + self.bias


class _Saved(FunctionCtx):
    saved_tensors: tuple[Tensor, Tensor]
    needs_input_grad: tuple[bool, bool]


class _Float32Product(torch.autograd.Function):
    """hidden [A, D] x weight [V, D] -> float32 [A, V]; gradients in the type of the inputs."""

    @staticmethod
    def forward(ctx: _Saved, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        if hidden.device.type == "cuda":
            return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
        wide = hidden.float()
        return torch.cat([wide @ rows.float().t() for rows in weight.split(SLICE_ROWS)], -1)

    @staticmethod
    def backward(ctx: _Saved, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        hidden, weight = ctx.saved_tensors
        grad = grads[0].to(weight.dtype)
        for_hidden = grad @ weight if ctx.needs_input_grad[0] else None
        for_weight = grad.t() @ hidden if ctx.needs_input_grad[1] else None
        return for_hidden, for_weight


def use_in(head: nn.Module) -> None:
    """Make a plain linear head one of these; an adapter's head stays as it is."""
    if type(head) is nn.Linear:
        head.__class__ = LanguageHead  # the parameters stay the same objects, under their names
