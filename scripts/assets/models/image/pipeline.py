"""A Stable Diffusion 3 pipeline of diffusers' and transformers' real classes, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from scripts.assets.models.image.tokenizers import clip_tokenizer, t5_tokenizer


@dataclass(frozen=True)
class PipelineSize:
    """Sizes of the pipeline; the defaults are the embedded model's."""

    image_px: int = 64
    latent_channels: int = 16
    vae_channels: tuple[int, ...] = (16, 32, 64, 64)
    """One halving of the image between two neighbours: 64 px come to 8."""
    width: int = 128
    num_heads: int = 4
    num_layers: int = 5
    text_width: int = 128
    num_text_layers: int = 2
    vocab_size: int = 900
    max_tokens: int = 16
    shift: float = 1.5
    """Of the noise schedule; SD3's 3 is for images of a million pixels."""


def new_pipeline(captions: Sequence[str], size: PipelineSize) -> StableDiffusion3Pipeline:
    """Random weights from torch's global seed; tokenizers trained on `captions`."""
    clip = clip_tokenizer(captions, size.vocab_size, size.max_tokens)
    t5 = t5_tokenizer(captions, size.max_tokens)
    return StableDiffusion3Pipeline(
        transformer=_transformer(size),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=size.shift),
        vae=_autoencoder(size),
        text_encoder=_clip_text(size, clip),
        tokenizer=clip,
        text_encoder_2=_clip_text(size, clip),
        tokenizer_2=clip,
        text_encoder_3=_t5_text(size, t5),
        tokenizer_3=t5,
    )


def _transformer(size: PipelineSize) -> SD3Transformer2DModel:
    latent_px = size.image_px // 2 ** (len(size.vae_channels) - 1)
    return SD3Transformer2DModel(
        sample_size=latent_px,
        patch_size=1,
        in_channels=size.latent_channels,
        out_channels=size.latent_channels,
        num_layers=size.num_layers,
        attention_head_dim=size.width // size.num_heads,
        num_attention_heads=size.num_heads,
        joint_attention_dim=size.text_width,
        caption_projection_dim=size.width,
        pooled_projection_dim=size.text_width,
        pos_embed_max_size=latent_px,
        qk_norm="rms_norm",
    )


def _autoencoder(size: PipelineSize) -> AutoencoderKL:
    stages = len(size.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=size.vae_channels,
        layers_per_block=1,
        latent_channels=size.latent_channels,
        norm_num_groups=min(8, *size.vae_channels),
        sample_size=size.image_px,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def _clip_text(size: PipelineSize, tokenizer: Any) -> CLIPTextModelWithProjection:
    width = size.text_width // 2
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=size.num_text_layers,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=size.max_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_act="gelu",
    )
    return CLIPTextModelWithProjection(config)


def _t5_text(size: PipelineSize, tokenizer: Any) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=size.text_width,
        d_kv=size.text_width // 4,
        num_heads=4,
        d_ff=2 * size.text_width,
        num_layers=size.num_text_layers,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return T5EncoderModel(config)


def num_parameters(pipeline: Any) -> dict[str, int]:
    """Parameters of every part with weights."""
    return {
        name: sum(p.numel() for p in part.parameters())
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }
