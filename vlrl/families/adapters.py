"""Models that may have a LoRA adapter."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from vlrl.families.interfaces import Adapted

if TYPE_CHECKING:
    from torch import nn


def base_model(model: nn.Module) -> Any:
    """The model below a LoRA wrapper; itself where there is none."""
    return model.get_base_model() if isinstance(model, Adapted) else model


def merged(model: nn.Module) -> Any:
    """The model with its adapter added to the weights; itself where there is none."""
    return model.merge_and_unload() if isinstance(model, Adapted) else model


def adapter_off(model: nn.Module, off: bool) -> AbstractContextManager[None]:
    """With `off`, the model computes as before training; ValueError where it has no adapter."""
    if not off:
        return nullcontext()
    if not isinstance(model, Adapted):
        raise ValueError(f"{type(model).__name__} has no adapter that could be switched off")
    return model.disable_adapter()
