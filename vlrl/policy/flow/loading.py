"""A diffusers pipeline as the parts of a policy: transformer, scheduler, decoder, encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vlrl.errors import ConfigError, why_not_loaded
from vlrl.policy.flow.families import FlowFamily, flow_family
from vlrl.policy.flow.options import FlowConfig


@dataclass
class LoadedFlow:
    """A pipeline in memory."""

    pipeline: Any
    """Keeps the encoders until the prompts are encoded; its transformer is not the trained one."""
    transformer: Any
    family: FlowFamily


def load_flow(options: FlowConfig, dtype: torch.dtype, *, checkpointing: bool) -> LoadedFlow:
    """Load a pipeline from a folder or the hub; the decoder stays in float32.

    Raises ConfigError where it cannot be loaded; before any weights are read where it is of an
    unknown class, or is guided in another way than `policy.guidance` says.
    """
    family, transformer_config = _described(options)
    _check_guidance(options, transformer_config)
    pipeline = _pipeline(options, dtype)
    transformer = pipeline.transformer
    pipeline.vae.to(torch.float32).requires_grad_(False).eval()
    for name in family.text_encoders:
        encoder = getattr(pipeline, name, None)
        if encoder is not None:
            encoder.requires_grad_(False).eval()
    if checkpointing:
        transformer.enable_gradient_checkpointing()
    if options.lora is not None:
        transformer = _add_lora(transformer, options, family)
    return LoadedFlow(pipeline, transformer, family)


def load_transformer(options: FlowConfig, dtype: torch.dtype) -> Any:
    """The bare transformer, to serve as the frozen reference."""
    with _named(options):
        _, transformer = _classes(options)
        # Not the whole pipeline: its text encoders are larger than what is wanted.
        model = transformer.from_pretrained(
            options.model, subfolder="transformer", revision=options.revision, dtype=dtype
        )
    return model.requires_grad_(False).eval()


def _pipeline(options: FlowConfig, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline

    with _named(options):
        return DiffusionPipeline.from_pretrained(
            options.model, revision=options.revision, dtype=dtype
        )


def _described(options: FlowConfig) -> tuple[FlowFamily, Mapping[str, Any]]:
    """Family and transformer's config, from two files of kilobytes; the weights are gigabytes."""
    with _named(options):
        pipeline, transformer = _classes(options)
        family = flow_family(pipeline)
        return family, transformer.load_config(
            options.model, subfolder="transformer", revision=options.revision
        )


def _classes(options: FlowConfig) -> tuple[str, Any]:
    """The pipeline's class by name, and its transformer's, as `model_index.json` says."""
    import diffusers

    parts = diffusers.DiffusionPipeline.load_config(options.model, revision=options.revision)
    _, transformer = parts.get("transformer", ("", ""))
    return str(parts.get("_class_name")), getattr(diffusers, transformer, None)


@contextmanager
def _named(options: FlowConfig) -> Iterator[None]:
    """Turn diffusers' failures to find or read the model into a ConfigError with its name.

    It raises ValueError for what is neither a folder nor a hub name, OSError for missing files.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"policy.model {options.model!r} cannot be loaded "
            f"({why_not_loaded(options.model, error)}); name a pipeline's folder, with "
            "model_index.json in it, or a hub name that this machine has in its cache or may "
            "download (HF_HUB_OFFLINE unset)"
        ) from error


def _add_lora(transformer: Any, options: FlowConfig, family: FlowFamily) -> Any:
    from peft import LoraConfig, get_peft_model

    assert options.lora is not None
    transformer.requires_grad_(False)
    return get_peft_model(
        transformer,
        LoraConfig(
            r=options.lora.rank,
            lora_alpha=options.lora.alpha,
            init_lora_weights="gaussian",
            target_modules=list(options.lora.target_modules or family.lora_targets),
        ),
        # Adapters in another dtype than the model's break ZeRO's flat buffers.
        autocast_adapter_dtype=False,
    )


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
