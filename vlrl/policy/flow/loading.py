"""A diffusers pipeline as the parts of a policy: transformer, scheduler, decoder, encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vlrl.errors import ConfigError, VlrlError, why_not_loaded
from vlrl.families.adapters import lora_named
from vlrl.families.classes import diffusers_class
from vlrl.families.interfaces import FlowPipeline
from vlrl.families.pipeline_adapters import lay_adapter, pipeline_base
from vlrl.policy.flow.families import FlowFamily, flow_family
from vlrl.policy.flow.options import FlowConfig

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin
    from peft import PeftModel


@dataclass
class LoadedFlow:
    """A pipeline in memory."""

    pipeline: FlowPipeline
    """Holds the encoders until the prompts are encoded; its transformer is not the trained one."""
    transformer: ModelMixin | PeftModel
    family: FlowFamily


def load_flow(options: FlowConfig, dtype: torch.dtype, *, checkpointing: bool) -> LoadedFlow:
    """Load a pipeline from a folder or the hub; the decoder stays in float32.

    Raises ConfigError where it cannot be loaded; before any weights are read if its class is
    unknown, or its guidance is not what `policy.guidance` says.
    """
    options, adapter = _without_adapter(options)
    if adapter is not None and options.lora is not None:
        raise ConfigError(
            f"policy.model {adapter!r} is a LoRA adapter, and policy.lora would train another one "
            "on top of it, which could not be saved alone: leave policy.lora out, or merge the "
            "adapter into its pipeline first (`vlrl merge`)"
        )
    family, transformer_config = described(options)
    _check_guidance(options, transformer_config)
    pipeline = _pipeline(options, dtype, adapter)
    transformer = pipeline.transformer
    assert transformer is not None
    pipeline.vae.to(torch.float32).requires_grad_(False).eval()
    for name in family.text_encoders:
        encoder = pipeline.components.get(name)
        if encoder is not None:
            encoder.requires_grad_(False).eval()
    trained = as_trained(transformer, options, family, checkpointing=checkpointing)
    return LoadedFlow(pipeline, trained, family)


def as_trained(
    transformer: ModelMixin, options: FlowConfig, family: FlowFamily, *, checkpointing: bool
) -> ModelMixin | PeftModel:
    """The transformer with its checkpointing and adapter."""
    if checkpointing:
        transformer.enable_gradient_checkpointing()
    return transformer if options.lora is None else _add_lora(transformer, options, family)


def load_transformer(options: FlowConfig, dtype: torch.dtype) -> ModelMixin:
    """The bare transformer, to serve as the frozen reference."""
    options, adapter = _without_adapter(options)
    if adapter is not None:  # diffusers lays adapters over whole pipelines
        fused: ModelMixin | None = _pipeline(options, dtype, adapter).transformer
        assert fused is not None
        return fused.requires_grad_(False).eval()
    with _named(options):
        _, transformer = _classes(options)
        # Not the whole pipeline: its text encoders are larger than the transformer.
        model = transformer.from_pretrained(
            options.model, subfolder="transformer", revision=options.revision, dtype=dtype
        )
    return model.requires_grad_(False).eval()


def _without_adapter(options: FlowConfig) -> tuple[FlowConfig, str | None]:
    """Options that name the base model, and the folder of the adapter that `model` named."""
    base = pipeline_base(options.model)
    if base is None:
        return options, None
    own = {"model": base.name, "revision": options.revision or base.revision}
    return options.model_copy(update=own), options.model


def _pipeline(options: FlowConfig, dtype: torch.dtype, adapter: str | None = None) -> FlowPipeline:
    from diffusers import DiffusionPipeline

    with _named(options):
        pipeline = DiffusionPipeline.from_pretrained(
            options.model, revision=options.revision, dtype=dtype
        )
    if adapter is not None:
        lay_adapter(pipeline, adapter)
    return pipeline


def described(options: FlowConfig) -> tuple[FlowFamily, Mapping[str, Any]]:
    """The family and the transformer's config, from two small files; no weights are read."""
    with _named(options):
        pipeline, transformer = _classes(options)
        family = flow_family(pipeline)
        return family, transformer.load_config(
            options.model, subfolder="transformer", revision=options.revision
        )


def _classes(options: FlowConfig) -> tuple[str, Any]:
    """The pipeline's class by name, and its transformer's, as `model_index.json` says."""
    from diffusers import DiffusionPipeline

    parts = DiffusionPipeline.load_config(options.model, revision=options.revision)
    _, transformer = parts.get("transformer", ("", ""))
    return str(parts.get("_class_name")), diffusers_class(transformer)


@contextmanager
def _named(options: FlowConfig) -> Iterator[None]:
    """Turn diffusers' failures to find or read the model into a ConfigError with its name.

    diffusers raises ValueError for what is neither a folder nor a hub name, OSError for missing
    files, and many kinds for damaged ones.
    """
    try:
        yield
    except VlrlError:
        raise
    except Exception as error:
        raise ConfigError(
            f"policy.model {options.model!r} cannot be loaded "
            f"({why_not_loaded(options.model, error)}); name a pipeline's folder, with "
            "model_index.json in it, or a hub name that this machine has in its cache or may "
            "download (HF_HUB_OFFLINE unset)"
        ) from error


def _add_lora(transformer: ModelMixin, options: FlowConfig, family: FlowFamily) -> PeftModel:
    from peft import LoraConfig, get_peft_model

    assert options.lora is not None
    transformer.requires_grad_(False)
    settings = LoraConfig(
        r=options.lora.rank,
        lora_alpha=options.lora.alpha,
        init_lora_weights="gaussian",
        target_modules=list(options.lora.target_modules or family.lora_targets),
    )
    with lora_named():
        # Adapters in another dtype than the model's break ZeRO's flat buffers.
        return get_peft_model(transformer, settings, autocast_adapter_dtype=False)


def _check_guidance(options: FlowConfig, transformer: Mapping[str, Any]) -> None:
    takes = bool(transformer.get("guidance_embeds", False))
    if takes and options.guidance != "distilled":
        raise ConfigError(
            f"policy.guidance is `{options.guidance}`, but {options.model!r} takes its guidance "
            "as an input; use `distilled`"
        )
    if not takes and options.guidance == "distilled":
        raise ConfigError(
            f"policy.guidance is `distilled`, but {options.model!r} has no guidance input; use "
            "`cfg` or `off`"
        )
