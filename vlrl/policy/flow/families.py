"""What differs between the families of flow-matching pipelines, one entry each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlrl.errors import ConfigError
from vlrl.families.interfaces import FlowPipeline

Config = Mapping[str, Any]
"""A transformer's, as diffusers keeps it."""


@dataclass(frozen=True)
class FlowFamily:
    """A family's facts. `context` is [R, L, D], `pooled` [R, D'], latents are [R, C, H, W]."""

    pipeline: str
    """diffusers' class, as model_index.json names it."""
    lora_targets: tuple[str, ...]
    encode: Callable[[FlowPipeline, Sequence[str], int], tuple[Tensor, Tensor]]
    """pipeline, prompts, T5 tokens -> context, pooled."""
    velocity: Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor, float | None], Tensor]
    """transformer, latents, sigma [R], context, pooled, distilled guidance -> velocity."""
    num_channels: Callable[[Config], int]
    """Latent channels."""
    patch: Callable[[Config], int]
    """Side of an image token in latent pixels."""
    text_encoders: tuple[str, ...]
    """Parts of the pipeline that are freed once the prompts are encoded."""


def _sd3_encode(
    pipeline: FlowPipeline, prompts: Sequence[str], num_tokens: int
) -> tuple[Tensor, Tensor]:
    context, _, pooled, _ = pipeline.encode_prompt(
        prompt=list(prompts),
        prompt_2=None,
        prompt_3=None,
        do_classifier_free_guidance=False,
        max_sequence_length=num_tokens,
    )
    return context, pooled


def _sd3_velocity(
    model: nn.Module,
    x: Tensor,
    sigma: Tensor,
    context: Tensor,
    pooled: Tensor,
    guidance: float | None,
) -> Tensor:
    # The model was trained on timesteps of 0 to 1000.
    return model(
        hidden_states=x,
        timestep=sigma * 1000,
        encoder_hidden_states=context,
        pooled_projections=pooled,
        return_dict=False,
    )[0]


def _flux_encode(
    pipeline: FlowPipeline, prompts: Sequence[str], num_tokens: int
) -> tuple[Tensor, Tensor]:
    context, pooled, _ = pipeline.encode_prompt(
        prompt=list(prompts), prompt_2=None, max_sequence_length=num_tokens
    )
    return context, pooled


def _flux_velocity(
    model: nn.Module,
    x: Tensor,
    sigma: Tensor,
    context: Tensor,
    pooled: Tensor,
    guidance: float | None,
) -> Tensor:
    """FLUX sees 2 x 2 latent pixels as one token, whose position is in `img_ids`."""
    R, C, H, W = x.shape
    tokens = x.view(R, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3, 5)
    places = torch.zeros(H // 2, W // 2, 3, device=x.device, dtype=x.dtype)
    places[..., 1] = torch.arange(H // 2, device=x.device)[:, None]
    places[..., 2] = torch.arange(W // 2, device=x.device)[None, :]
    scale = None if guidance is None else torch.full((R,), guidance, device=x.device)
    out = model(
        hidden_states=tokens.reshape(R, H // 2 * (W // 2), C * 4),
        timestep=sigma,
        guidance=scale,
        pooled_projections=pooled,
        encoder_hidden_states=context,
        txt_ids=torch.zeros(context.shape[1], 3, device=x.device, dtype=x.dtype),
        img_ids=places.view(-1, 3),
        return_dict=False,
    )[0]
    return out.view(R, H // 2, W // 2, C, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(R, C, H, W)


_ATTENTION = (
    "attn.add_k_proj",
    "attn.add_q_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "attn.to_k",
    "attn.to_q",
    "attn.to_v",
    "attn.to_out.0",
)

FAMILIES = (
    FlowFamily(
        pipeline="StableDiffusion3Pipeline",
        lora_targets=_ATTENTION,
        encode=_sd3_encode,
        velocity=_sd3_velocity,
        num_channels=lambda config: config["in_channels"],
        patch=lambda config: config["patch_size"],
        text_encoders=("text_encoder", "text_encoder_2", "text_encoder_3"),
    ),
    FlowFamily(
        pipeline="FluxPipeline",
        # As flow_grpo's FLUX recipe: both kinds of blocks, and their feed-forward parts.
        lora_targets=(
            *_ATTENTION,
            "ff.net.0.proj",
            "ff.net.2",
            "ff_context.net.0.proj",
            "ff_context.net.2",
        ),
        encode=_flux_encode,
        velocity=_flux_velocity,
        num_channels=lambda config: config["in_channels"] // 4,
        patch=lambda config: 2,
        text_encoders=("text_encoder", "text_encoder_2"),
    ),
)


def flow_family(name: str) -> FlowFamily:
    """The family of a pipeline's class; ConfigError where there is none."""
    for family in FAMILIES:
        if family.pipeline == name:
            return family
    known = ", ".join(family.pipeline for family in FAMILIES)
    raise ConfigError(f"policy.model is a {name}; flow policies support {known}")
