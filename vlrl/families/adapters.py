"""Models that may have a LoRA adapter, and folders that hold one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.errors import ConfigError, first_line
from vlrl.families.interfaces import Adapted

if TYPE_CHECKING:
    from peft import PeftModel
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
    from peft import PeftModel

    path = Path(folder).expanduser()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that do not fit, which is judged below
            adapted = PeftModel.from_pretrained(model, str(path))
        if (path / ADAPTER_WEIGHTS).is_file():
            lost = _lay_weights(adapted, path / ADAPTER_WEIGHTS)
            if lost:
                raise ConfigError(f"{lost[0]!r} and {len(lost) - 1} more belong to other layers")
    except Exception as error:  # of many kinds, by what is damaged
        raise ConfigError(
            f"the adapter {folder!r} does not fit its model: {first_line(error)}; correct "
            f"base_model_name_or_path in {path / ADAPTER_FILE}"
        ) from error
    # peft has frozen the weights below the adapter.
    return adapted.merge_and_unload().requires_grad_(True)


def _lay_weights(adapted: PeftModel, file: Path) -> list[str]:
    """Fill an adapter's layers from its file; what the file or the layers have alone, sorted.

    peft translates each name as it would an old checkpoint's, which loses some that are right
    (Mistral Large 4's shared experts): names that are the layers' own are taken as they are.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    stored = load_file(file)
    laid = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if laid.keys() <= stored.keys():
        for name, weight in laid.items():
            weight.copy_(stored[name])
        return sorted(stored.keys() - laid.keys() - adapted.state_dict().keys())
    result: Any = set_peft_model_state_dict(adapted, stored)
    absent = [name for name in result.missing_keys if "lora_" in name]
    return sorted([*absent, *result.unexpected_keys])


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
        with warnings.catch_warnings():
            # Of patterns that peft itself adds for a mixture's experts (GLM-4.5V).
            warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys")
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
