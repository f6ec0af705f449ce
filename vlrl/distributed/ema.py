"""A running average of the trained weights, for evaluation and export.

Each rank averages what it holds: whole tensors, or its shard of them under ZeRO-3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """float32 average of parameters; early steps weigh more, as decay = min(decay, (1+n)/(10+n)).

    Source of the ramp: flow_grpo's EMA, which TensorFlow's ExponentialMovingAverage had before;
    here it is applied once an optimizer step (flow_grpo applies it once a denoising step).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.num_updates = 0
        self.shadow = [held(p).detach().float().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of now into the average."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for average, parameter in zip(self.shadow, self.parameters, strict=True):
            average.lerp_(held(parameter).float(), 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters are the average; afterwards what they were, to the bit."""
        kept = [held(p).detach().clone() for p in self.parameters]
        self._write(self.shadow)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: Sequence[Tensor]) -> None:
        # ZeRO-3 keeps small parameters whole after a step: their shards would not be read again.
        whole: list[Any] = [p for p in self.parameters if _status(p) == "AVAILABLE"]
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
        """Go on from a state of the same rank in the same layout."""
        self.num_updates = int(state["num_updates"])
        for i, average in enumerate(self.shadow):
            average.copy_(state[f"{i:06d}"])


def _status(parameter: nn.Parameter) -> str:
    """Of a parameter under ZeRO-3: AVAILABLE where this rank holds all of it at the moment."""
    return getattr(getattr(parameter, "ds_status", None), "name", "")


def held(parameter: nn.Parameter) -> Tensor:
    """What this rank holds of a parameter: its shard under ZeRO-3, else all of it."""
    shard: Tensor | None = getattr(parameter, "ds_tensor", None)
    return parameter.data if shard is None else shard


def full_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """The shape of a whole parameter, under ZeRO-3 too, where a rank holds a shard."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
