"""A diffusers pipeline as the parts of a policy: transformer, scheduler, decoder, encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vlrl.config.flow import FlowConfig
from vlrl.errors import ConfigError
from vlrl.policy.flow.families import FlowFamily, flow_family


@dataclass
class LoadedFlow:
    """A pipeline in memory."""

    pipeline: Any
    """Keeps the encoders until the prompts are encoded; its transformer is not the trained one."""
    transformer: Any
    family: FlowFamily


def load_flow(options: FlowConfig, dtype: torch.dtype, *, checkpointing: bool) -> LoadedFlow:
    """Load a pipeline from a folder or the hub; the decoder stays in float32."""
    pipeline = _pipeline(options, dtype)
    family = flow_family(pipeline)
    transformer = pipeline.transformer
    _check_guidance(options, transformer)
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
    return _pipeline(options, dtype).transformer.requires_grad_(False).eval()


def _pipeline(options: FlowConfig, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(
            options.model, revision=options.revision, dtype=dtype
        )
    except OSError as error:
        raise ConfigError(f"policy.model {options.model!r}: {error}") from error


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


def _check_guidance(options: FlowConfig, transformer: Any) -> None:
    takes = bool(getattr(transformer.config, "guidance_embeds", False))
    if takes and options.guidance != "distilled":
        raise ConfigError(
            "policy.guidance: this model takes its guidance as an input; use `distilled`"
        )
    if not takes and options.guidance == "distilled":
        raise ConfigError("policy.guidance: this model has no guidance input; use `cfg` or `off`")
