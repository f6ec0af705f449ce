"""The tiny model's architecture, and the exact but faster attention that its training uses."""

import types
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    AttentionInterface,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from scripts.assets.models.gui_and_video.qwen import random_model, small_config

FAST_ATTENTION = "vlrl_warmup"
# One head of each of these layers is trained where to look (see POINTER_HEAD).
POINTER_LAYERS = (2, 3)
POINTER_HEAD = 0


def tiny_config(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    """About 6 million parameters; M-RoPE with interleaved sections and a short period."""
    text = {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    }
    vision = {
        "depth": 4,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_heads": 3,
        "window_size": 112,
        "fullatt_block_indexes": [2],
    }
    # A base of 1e6 leaves no channel that turns within the 18 columns of these screens, so a
    # tiny model could not tell positions apart; interleaving gives height and width both
    # fast channels (where) and slow ones (what).
    return small_config(tokenizer, text, vision, mrope_section=[1] * 32, rope_theta=1000.0)


def build_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A model with random weights that belongs to this tokenizer."""
    return random_model(tiny_config(tokenizer), tokenizer, seed)


class AttentionTap:
    """Keeps the pointer heads' attention scores of the last forward pass."""

    def __init__(self) -> None:
        self.enabled = False
        self.scores: list[Tensor] = []


TAP = AttentionTap()


def fast_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Plain matrix products in the working precision: on CPU 2x faster than the fused kernel."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    scores = torch.matmul(query * (scaling or query.shape[-1] ** -0.5), key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask.to(scores.dtype)
    elif query.shape[2] > 1:
        raise ValueError("fast_attention needs an explicit mask")
    if TAP.enabled and module.layer_idx in POINTER_LAYERS:
        TAP.scores.append(scores[:, POINTER_HEAD])
    # Softmax stays in the scores' type: autocast would write a second copy in float32.
    with torch.autocast(query.device.type, enabled=False):
        weights = functional.softmax(scores, dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def _windowed_forward(
    self: Any,
    hidden_states: Tensor,
    cu_seqlens: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    **_: Any,
) -> Tensor:
    """Vision attention with windows of equal length in one batch instead of one call each."""
    length = hidden_states.shape[0]
    qkv = self.qkv(hidden_states).reshape(length, 3, self.num_heads, self.head_dim)
    query, key = apply_rotary_pos_emb_vision(qkv[:, 0], qkv[:, 1], *position_embeddings)
    query, key, value = (query * self.scaling).to(qkv.dtype), key, qkv[:, 2]
    starts, sizes = cu_seqlens[:-1].long(), (cu_seqlens[1:] - cu_seqlens[:-1]).long()
    rows_of, outputs = [], []
    for size in sizes.unique().tolist():
        rows = (starts[sizes == size, None] + torch.arange(size, device=starts.device)).flatten()
        q, k, v = (
            part[rows].view(-1, size, self.num_heads, self.head_dim).transpose(1, 2)
            for part in (query, key, value)
        )
        scores = torch.matmul(q, k.transpose(2, 3))
        with torch.autocast(q.device.type, enabled=False):
            weights = functional.softmax(scores, dim=-1)
        outputs.append(torch.matmul(weights, v).transpose(1, 2).reshape(-1, self.dim))
        rows_of.append(rows)
    order = torch.argsort(torch.cat(rows_of))
    return self.proj(torch.cat(outputs)[order])


def _linear_patch_embed(self: Any, pixels: Tensor) -> Tensor:
    """The patch convolution as a matrix product: its backward pass is 4x faster on CPU."""
    return functional.linear(pixels, self.proj.weight.view(self.embed_dim, -1))


def use_fast_attention(model: Any) -> None:
    """Switch a model in memory to the faster attention; saved weights do not change."""
    AttentionInterface.register(FAST_ATTENTION, fast_attention)
    language_model = model.model.language_model
    for owner in (language_model, *(layer.self_attn for layer in language_model.layers)):
        owner.config._attn_implementation = FAST_ATTENTION
    embed = model.model.visual.patch_embed
    embed.forward = types.MethodType(_linear_patch_embed, embed)
    for block in model.model.visual.blocks:
        block.attn.forward = types.MethodType(_windowed_forward, block.attn)


def use_default_attention(model: Any) -> None:
    """Undo use_fast_attention."""
    model.model.language_model.config._attn_implementation = "sdpa"
    model.model.visual.patch_embed.__dict__.pop("forward", None)
    for block in model.model.visual.blocks:
        block.attn.__dict__.pop("forward", None)
