"""The weights as an engine reads them: whole, with an adapter merged into copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vlrl.families.adapters import base_model
from vlrl.families.interfaces import Adapted
from vlrl.policy.vision_language.samplers.servable import link

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

SHARD = "5GB"
"""Largest file of an export, held in memory while it is written."""
_BASE, _ADAPTER = ".base_layer", "lora_"


class WholeModel:
    """A policy's model as engines read it; an adapter is merged into copies."""

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        self.model = model

    def __call__(self, folder: str) -> None:
        """Write it into a folder that `from_pretrained` reads."""
        core = base_model(self.model)
        with writes_here(core):
            core.save_pretrained(
                folder,
                state_dict=whole_weights(self.model),
                safe_serialization=True,
                max_shard_size=SHARD,
            )

    def tensors(self) -> dict[str, Tensor]:
        """Its weights under the names that the folder's files would have, without a copy."""
        from transformers.core_model_loading import revert_weight_conversion
        from transformers.modeling_utils import remove_tied_weights_from_state_dict

        core = base_model(self.model)
        known = remove_tied_weights_from_state_dict(whole_weights(self.model), core)
        return dict(revert_weight_conversion(core, known))


class WrittenModel:
    """A checkpoint on disk, for a server that holds other weights of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, folder: str) -> None:
        """Put links to its files into a folder."""
        Path(folder).mkdir(parents=True)
        link(self.folder.resolve().iterdir(), Path(folder))

    def tensors(self) -> dict[str, Tensor]:
        """Its weights, read whole."""
        return dict(tensors(self.folder))


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


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """A checkpoint's tensors by name, one at a time."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (no mapping)
                yield name, opened.get_tensor(name)
