"""LoRA adapters of diffusers' pipelines, and folders that hold one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlrl.errors import ConfigError, first_line

WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
"""diffusers' name of an adapter's file."""
BASE_FILE = "adapter_base.json"
"""Which pipeline an exported adapter belongs to; diffusers' own file does not say."""


@dataclass(frozen=True)
class PipelineBase:
    """The pipeline that an adapter was trained on."""

    name: str
    """A folder or a hub name."""
    revision: str | None


def pipeline_base(name: str) -> PipelineBase | None:
    """The pipeline that a folder's adapter was trained on; None where there is no adapter."""
    file = Path(name).expanduser() / BASE_FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        revision = found.get("revision")
        return PipelineBase(str(found["base"]), None if revision is None else str(revision))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{file} does not say which pipeline its adapter belongs to (`base`): {error}"
        ) from error


def lay_adapter(pipeline: Any, folder: str) -> None:
    """Add the adapter of a folder to the weights of a pipeline's transformer.

    Raises ConfigError where it is damaged or belongs to another transformer.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    path = Path(folder).expanduser()
    try:
        with safe_open(path / WEIGHTS_FILE, "pt") as file:
            stored = {name.removeprefix("transformer.") for name in file.keys()}  # noqa: SIM118
        pipeline.load_lora_weights(str(path))
        laid = get_peft_model_state_dict(pipeline.transformer, adapter_name="default_0")
        lacking = sorted(stored.symmetric_difference(laid))
        if lacking:
            raise ConfigError(f"{lacking[0]!r} and {len(lacking) - 1} more belong to other layers")
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    except Exception as error:  # of many kinds, by what is damaged
        raise ConfigError(
            f"the adapter {folder!r} does not fit its pipeline: {first_line(error)}; correct "
            f"`base` in {path / BASE_FILE}"
        ) from error
    # peft has frozen the weights below the adapter.
    pipeline.transformer.requires_grad_(True)
