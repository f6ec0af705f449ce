"""Models that may have a LoRA adapter, and folders that hold one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.errors import ConfigError, first_line
from vlrl.families.interfaces import Adapted

if TYPE_CHECKING:
    from torch import nn


ADAPTER_FILE, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter_base(name: str) -> str | None:
    """The model that a folder's LoRA adapter was trained on; None where there is no adapter.

    Raises ConfigError where the adapter does not say it.
    """
    file = Path(name).expanduser() / ADAPTER_FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from error
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    if not isinstance(base, str) or not base:
        raise ConfigError(
            f"{file} does not say which model it belongs to (base_model_name_or_path); add it"
        )
    return base


def with_adapter(model: nn.Module, folder: str) -> Any:
    """The model with the weights of a folder's LoRA adapter merged in, trainable like any other.

    Raises ConfigError where the adapter is damaged or belongs to another model; peft would leave
    out the layers that it does not find.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    path = Path(folder).expanduser()
    try:
        adapted = PeftModel.from_pretrained(model, str(path))
        if (path / ADAPTER_WEIGHTS).is_file():
            with safe_open(path / ADAPTER_WEIGHTS, "pt") as file:
                stored = set(file.keys())
            lacking = sorted(stored.symmetric_difference(get_peft_model_state_dict(adapted)))
            if lacking:
                raise ConfigError(
                    f"{lacking[0]!r} and {len(lacking) - 1} more belong to other layers"
                )
    except Exception as error:  # of many kinds, by what is damaged
        raise ConfigError(
            f"the adapter {folder!r} does not fit its model: {first_line(error)}; correct "
            f"base_model_name_or_path in {path / ADAPTER_FILE}"
        ) from error
    # peft has frozen the weights below the adapter.
    return adapted.merge_and_unload().requires_grad_(True)


def refuse_second_adapter(model: str, lora: object) -> None:
    """Raise ConfigError where a run's `policy.lora` would lie on the adapter in `model`."""
    if lora is not None and adapter_base(model) is not None:
        raise ConfigError(
            f"policy.model {model!r} is a LoRA adapter, and policy.lora would train another one on "
            "top of it, which could not be saved alone: leave policy.lora out, or merge the "
            "adapter into its model first (`vlrl merge`)"
        )


@contextmanager
def lora_named() -> Iterator[None]:
    """Turn what peft says of layers that it cannot adapt into a ConfigError with the key."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"lora.target_modules: {first_line(error)}") from error


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
