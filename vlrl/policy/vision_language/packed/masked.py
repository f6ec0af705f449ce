"""Packed groups by masked calls, which run everywhere: one per prompt, one per block."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv

from vlrl.policy.vision_language.packed.plan import PackedGroups


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: PackedGroups,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """prompt x prompt, causal; then blocks of answers x [ prompt | the block ], masked.

    query: [1, heads, L, D]; key, value: [1, key heads, L, D]. Returns [1, heads, L, D].
    """
    repeats = query.shape[1] // key.shape[1]
    groups = plan.blocks(query.device)
    sizes = []
    for span, blocks in zip(plan.spans, groups, strict=True):
        sizes += [span.num_prompt_tokens, *(len(block.mask) for block in blocks)]
    # Splits, not slices: the backward pass of a slice fills a whole row with zeros.
    queries = iter(query.split(sizes, 2))
    keys = iter(repeat_kv(key, repeats).split(sizes, 2))
    values = iter(repeat_kv(value, repeats).split(sizes, 2))
    attend = partial(scaled_dot_product_attention, dropout_p=dropout, scale=scale)
    parts = []
    for blocks in groups:
        k_prompt, v_prompt = next(keys), next(values)
        parts.append(attend(next(queries), k_prompt, v_prompt, is_causal=True))
        for block in blocks:
            k_seen = torch.cat([k_prompt, next(keys)], 2)
            v_seen = torch.cat([v_prompt, next(values)], 2)
            parts.append(attend(next(queries), k_seen, v_seen, attn_mask=block.mask))
    return torch.cat(parts, 2)
