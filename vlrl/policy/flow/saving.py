"""A trained flow policy on disk, in diffusers' own layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from vlrl.families.pipeline_adapters import BASE_FILE, pipeline_base

if TYPE_CHECKING:
    from vlrl.policy.flow.policy import FlowPolicy

ADAPTER_PREFIX = "transformer.base_model.model."


def save_flow(policy: FlowPolicy, folder: str, weights: Mapping[str, Tensor]) -> None:
    """Write a folder that `from_pretrained` or `load_lora_weights` reads.

    weights: the module's parameters by name. With LoRA the folder holds the adapter alone.
    Otherwise it holds a whole pipeline if the model was loaded from a local folder, and the
    transformer alone if it came from the hub, where the other parts still are.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    if policy.options.lora is not None:
        _save_adapter(policy, out, weights)
        return
    base = pipeline_base(policy.options.model)
    source = Path(policy.options.model if base is None else base.name)
    if source.is_dir():
        shutil.copytree(
            source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("transformer")
        )
    own = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    policy.module.core.save_pretrained(out / "transformer", state_dict=own, safe_serialization=True)


def _save_adapter(policy: FlowPolicy, out: Path, weights: Mapping[str, Tensor]) -> None:
    from peft import PeftModel

    layers = {
        name.removeprefix(ADAPTER_PREFIX).replace(".default", ""): tensor
        for name, tensor in weights.items()
        if "lora_" in name
    }
    # diffusers keeps the scale (alpha / rank) in the file's metadata.
    transformer = policy.module.transformer
    assert isinstance(transformer, PeftModel)
    config = transformer.peft_config["default"].to_dict()
    policy.pipeline.save_lora_weights(
        save_directory=str(out),
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=config,
    )
    base = {"base": policy.options.model, "revision": policy.options.revision}
    (out / BASE_FILE).write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")
