"""The weights as an engine reads them: whole, with an adapter merged into copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vlrl.families.adapters import base_model
from vlrl.families.interfaces import Adapted

_BASE, _ADAPTER = ".base_layer", "lora_"


@contextmanager
def writes_here(model: nn.Module) -> Iterator[None]:
    """Have `save_pretrained` write on every rank: transformers writes on rank 0 alone.

    Each rank's engine reads what its own rank has written.
    """
    part: Any = model
    part.should_save_on_this_rank = lambda is_main_process: True
    try:
        yield
    finally:
        del part.should_save_on_this_rank


@torch.no_grad()
def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight of the bare model by its own name; the model itself is left as it is.

    Merging into the model and out again would round its weights anew at every publication.
    """
    core: nn.Module = base_model(model)
    found: dict[str, Tensor] = {}
    for name, tensor in core.state_dict().items():
        if _ADAPTER not in name:
            found[name.replace(_BASE, "")] = tensor
    if not isinstance(model, Adapted):
        return found
    for name, part in core.named_modules():
        if "lora_A" in dict(part.named_children()):
            layer: Any = part
            for adapter in layer.active_adapters:
                weight = found[f"{name}.weight"]
                delta = layer.get_delta_weight(adapter)
                found[f"{name}.weight"] = (weight.float() + delta.float()).to(weight.dtype)
    return found
