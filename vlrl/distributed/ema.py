"""A running average of the trained weights, for evaluation and export.

Each rank averages what it holds: whole tensors, or its shard of them under ZeRO-3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeGuard

import torch
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from deepspeed.runtime.zero.utils import is_zero_param
from torch import Tensor, nn


class Sharded(Protocol):
    """What DeepSpeed adds to a parameter under ZeRO-3."""

    ds_tensor: Tensor
    """This rank's shard."""
    ds_shape: torch.Size
    """Of the whole parameter."""
    ds_status: ZeroParamStatus

    def partition(self, *, param_list: Sequence[Sharded]) -> None:
        """Keep only this rank's shard of some parameters."""


class WeightAverage:
    """float32 average of parameters: d^repeats of it are kept, d = min(decay, (1+n) / (10+n)).

    n counts optimizer steps, and the weights after step n are added where n + 1 is a multiple of
    `every`. Source: flow_grpo's EMA, whose ramp is that of TensorFlow's ExponentialMovingAverage;
    it runs in each micro-batch, between which the weights stay as they are: `repeats` of them.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], decay: float, every: int = 1, repeats: int = 1
    ) -> None:
        self.parameters = list(parameters)
        self.decay, self.every, self.repeats = decay, every, repeats
        self.num_updates = 0
        """Optimizer steps so far."""
        self.shadow = [held(p).detach().float().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Called after each optimizer step: adds the current weights where it is their turn."""
        self.num_updates += 1
        if (self.num_updates + 1) % self.every:
            return
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates)) ** self.repeats
        for average, parameter in zip(self.shadow, self.parameters, strict=True):
            average.lerp_(held(parameter).float(), 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters hold the average; afterwards their own values, to the bit."""
        kept = [held(p).detach().clone() for p in self.parameters]
        self._write(self.shadow)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: Sequence[Tensor]) -> None:
        # ZeRO-3 leaves small parameters gathered after a step and would not read their shards.
        whole = [
            parameter
            for parameter in self.parameters
            if _is_sharded(parameter) and parameter.ds_status == ZeroParamStatus.AVAILABLE
        ]
        if whole:
            whole[0].partition(param_list=whole)
        for parameter, value in zip(self.parameters, values, strict=True):
            held(parameter).copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """This rank's part of the average, on CPU."""
        state = {f"{i:06d}": average.cpu() for i, average in enumerate(self.shadow)}
        return {**state, "num_updates": torch.tensor([self.num_updates])}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state of the same rank and sharding."""
        self.num_updates = int(state["num_updates"])
        for i, average in enumerate(self.shadow):
            average.copy_(state[f"{i:06d}"])


def _is_sharded(parameter: nn.Parameter) -> TypeGuard[Sharded]:
    return is_zero_param(parameter)


def held(parameter: nn.Parameter) -> Tensor:
    """The part of a parameter that this rank holds: its shard under ZeRO-3, else all of it."""
    return parameter.ds_tensor if _is_sharded(parameter) else parameter.data


def own_values(parameter: nn.Parameter, rank: int) -> Tensor:
    """The values of a parameter that a rank holds, flat, without the padding of the last shard."""
    flat = held(parameter).detach().flatten()
    if not _is_sharded(parameter):
        return flat
    return flat[: max(0, parameter.ds_shape.numel() - rank * len(flat))]


def full_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """The shape of a whole parameter, under ZeRO-3 too, where a rank holds a shard."""
    return tuple(parameter.ds_shape if _is_sharded(parameter) else parameter.shape)
