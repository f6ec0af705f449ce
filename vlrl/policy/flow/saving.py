"""A trained flow policy on disk, in diffusers' own layouts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

ADAPTER_PREFIX = "transformer.base_model.model."


def save_flow(policy: Any, folder: str, weights: Mapping[str, Tensor]) -> None:
    """Write what `from_pretrained` or `load_lora_weights` loads.

    weights: the module's parameters by name. With LoRA the folder holds the adapter alone.
    Otherwise it is a whole pipeline where the start was a local folder, and the transformer alone
    where it came from the hub: the other parts are unchanged and stay where they are.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    if policy.options.lora is not None:
        _save_adapter(policy, out, weights)
        return
    source = Path(policy.options.model)
    if source.is_dir():
        shutil.copytree(
            source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("transformer")
        )
    own = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    policy.module.core.save_pretrained(out / "transformer", state_dict=own, safe_serialization=True)


def _save_adapter(policy: Any, out: Path, weights: Mapping[str, Tensor]) -> None:
    layers = {
        name.removeprefix(ADAPTER_PREFIX).replace(".default", ""): tensor
        for name, tensor in weights.items()
        if "lora_" in name
    }
    # diffusers keeps the scale (alpha / rank) in the file's metadata.
    config = policy.module.transformer.peft_config["default"].to_dict()
    type(policy.pipeline).save_lora_weights(
        save_directory=str(out),
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=config,
    )
