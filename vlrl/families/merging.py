"""A whole model from the folder of an adapter: `vlrl merge`."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.errors import ConfigError, VlrlError, why_not_loaded
from vlrl.families.adapters import (
    ADAPTER_FILE,
    ADAPTER_WEIGHTS,
    PICKLED_WEIGHTS,
    adapter_base,
    with_adapter,
)
from vlrl.families.known import FAMILIES
from vlrl.families.pipeline_adapters import (
    BASE_FILE,
    WEIGHTS_FILE,
    PipelineBase,
    lay_adapter,
    pipeline_base,
)

if TYPE_CHECKING:
    import torch

ADAPTER_FILES = (
    ADAPTER_FILE, ADAPTER_WEIGHTS, PICKLED_WEIGHTS, "README.md", BASE_FILE, WEIGHTS_FILE
)  # fmt: skip
"""What a merged folder does not hold."""
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def merge(adapter: str, out: Path, revision: str | None = None) -> str:
    """Write the adapter's model with the adapter in its weights; the name of the model.

    revision: of a model on the hub. Raises ConfigError where there is no adapter, it does not fit
    its model, or `out` holds something.
    """
    if not Path(adapter).expanduser().is_dir():
        raise ConfigError(
            f"there is no folder {adapter!r}; name an adapter's, e.g. runs/NAME/model"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {str(out)!r} is not empty; choose another folder")
    pipeline, base = pipeline_base(adapter), adapter_base(adapter)
    if pipeline is None and base is None:
        raise ConfigError(
            f"{adapter!r} holds no adapter ({ADAPTER_FILE} or {BASE_FILE}), so there is nothing to "
            "merge: a model that was trained whole is used as it is"
        )
    # Whole or not at all: a folder that a kill has cut looks like a model.
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        if pipeline is not None:
            own = replace(pipeline, revision=revision or pipeline.revision)
            _merge_pipeline(adapter, own, partial)
        elif base is not None:
            _merge_peft(adapter, base, partial, revision)
        _copy_beside(Path(adapter).expanduser(), partial)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return str(base) if pipeline is None else pipeline.name


def _copy_beside(adapter: Path, out: Path) -> None:
    """What lies beside an adapter's weights: vlrl.json, the processor, a codec."""
    there = {*ADAPTER_FILES, *(path.name for path in out.iterdir())}
    for path in adapter.iterdir():
        if path.name not in there and path.is_dir():
            shutil.copytree(path, out / path.name)
        elif path.name not in there:
            shutil.copy(path, out / path.name)


def _merge_peft(adapter: str, base: str, out: Path, revision: str | None) -> None:
    """Of a transformers model: its class is its family's, else the one that its config names."""
    import transformers

    folder = Path(adapter).expanduser()
    try:
        config = transformers.AutoConfig.from_pretrained(base, revision=revision)
        names = config.architectures or [""]
        if config.model_type in FAMILIES:
            names = [FAMILIES[config.model_type].model_class]
        model_class = getattr(transformers, names[0], None)
        if model_class is None:
            raise ConfigError(
                f"the config of {base!r} names no class of transformers {transformers.__version__} "
                f"in `architectures`, but {list(names)}"
            )
        model = model_class.from_pretrained(base, revision=revision, dtype="auto")
    except VlrlError:
        raise
    except Exception as error:  # damaged files: of many kinds
        raise ConfigError(
            f"{base!r}, the model of the adapter {adapter!r}, cannot be loaded "
            f"({why_not_loaded(base, error)}); correct base_model_name_or_path in "
            f"{folder / ADAPTER_FILE}, or bring the model there"
        ) from error
    with_adapter(model, str(folder)).save_pretrained(out)
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        transformers.AutoProcessor.from_pretrained(base, revision=revision).save_pretrained(out)


def _merge_pipeline(adapter: str, base: PipelineBase, out: Path) -> None:
    """Of a diffusers pipeline: its transformer is merged, the other parts are copied."""
    from diffusers import DiffusionPipeline

    try:
        folder = Path(base.name).expanduser()
        if not folder.is_dir():
            folder = Path(DiffusionPipeline.download(base.name, revision=base.revision))
        parts = DiffusionPipeline.load_config(folder)
        unread: dict[str, Any] = {
            name: None
            for name, value in parts.items()
            if isinstance(value, list | tuple) and name not in ("transformer", "scheduler")
        }
        dtype = _stored_dtype(folder / "transformer")
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype, **unread)
    except Exception as error:  # damaged files: of many kinds
        raise ConfigError(
            f"{base.name!r}, the pipeline of the adapter {adapter!r}, cannot be loaded "
            f"({why_not_loaded(base.name, error)}); correct `base` in "
            f"{Path(adapter) / BASE_FILE}, or bring the pipeline there"
        ) from error
    lay_adapter(pipeline, adapter)
    shutil.copytree(folder, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("transformer"))
    pipeline.transformer.save_pretrained(out / "transformer", safe_serialization=True)


def _stored_dtype(folder: Path) -> torch.dtype:
    """The number format of a model's files; diffusers would read all as float32."""
    import torch
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it cannot be iterated otherwise
                dtype: torch.dtype = file.get_tensor(name).dtype
                return dtype
    return torch.float32
