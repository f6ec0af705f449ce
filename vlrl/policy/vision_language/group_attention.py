"""Attention in which the answers of a group share their prompt's keys and values.

    update    one row [ prompt | answer 1 | ... | answer G | next group's prompt | ... ]
              masked calls (packed/masked.py), or on CUDA in half precision, where a trial found
              them correct and faster, two flash calls without a mask (packed/varlen.py)
    decoding  G queries per group x its one prompt, and each query x its own answer so far: two
              fused calls (fused.py), merged by their log-sum-exps

Nothing is padded in the update, and the prompt is repeated in neither. Exact: the same sums as for
G rows that each hold the prompt. Registered with transformers' AttentionInterface, so that no
model is patched; a forward pass without a plan is transformers' own sdpa. Idea: PrefixGrouper
(arXiv 2506.05433), which splits a group's attention into two calls but repeats the prompt's keys G
times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vlrl.policy.vision_language.fused import attend, merged
from vlrl.policy.vision_language.packed.choice import takes_varlen
from vlrl.policy.vision_language.packed.masked import masked_attention
from vlrl.policy.vision_language.packed.plan import PackedGroups
from vlrl.policy.vision_language.packed.slices import SlicedGroups
from vlrl.policy.vision_language.packed.varlen import varlen_attention

NAME = "vlrl_group"


@dataclass(frozen=True)
class SharedPrompts:
    """The plan of a decoding step: prompts' keys and values, stored once per group."""

    layers: Mapping[int, tuple[Tensor, Tensor]]
    """Keys and values of each attention layer's prompts, [P, heads, L, D] each; L as fused.py
    wants it."""
    padding: Tensor | None
    """0 where a prompt has a token, -inf elsewhere, [P, 1, 1, L]; None where all are full."""
    num_each: int
    unwritten: Tensor | None = None
    """-inf where the answers' cache has no token yet, else 0, [1, 1, 1, C]; None: all are read."""

    def reading(self, newest: Tensor, num_columns: int, dtype: torch.dtype) -> SharedPrompts:
        """The plan in which answers are read up to their newest column, [1]."""
        columns = torch.arange(num_columns, device=newest.device)
        unwritten = torch.zeros(num_columns, dtype=dtype, device=newest.device)
        unwritten = unwritten.masked_fill(columns > newest, -torch.inf)
        return replace(self, unwritten=unwritten[None, None, None])

    def select(self, groups: Tensor, num_each: int) -> SharedPrompts:
        """The plan of some groups, with another number of rows per group."""
        if len(groups) == len(next(iter(self.layers.values()))[0]):
            return replace(self, num_each=num_each)  # nothing to copy
        layers = {i: (keys[groups], values[groups]) for i, (keys, values) in self.layers.items()}
        padding = None if self.padding is None else self.padding[groups]
        return SharedPrompts(layers, padding, num_each)


def group_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    groups: PackedGroups | SlicedGroups | SharedPrompts | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention under a plan; [B, heads, L, D] in, [B, L, heads, D] out, as in transformers."""
    if groups is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if isinstance(groups, SharedPrompts):
        prompts = groups.layers[int(module.layer_idx)]  # type: ignore[arg-type]
        return _decode(query, key, value, prompts, groups, scaling).transpose(1, 2), None
    if isinstance(groups, SlicedGroups):
        query, key, value = (groups.to_heads(x) for x in (query, key, value))
        out = _packed(query, key, value, groups.row, scaling, dropout).transpose(1, 2)
        return groups.to_columns(out), None
    return _packed(query, key, value, groups, scaling, dropout).transpose(1, 2).contiguous(), None


def _packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: PackedGroups,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Attention of a whole row, [1, heads, L, D] in and out."""
    if takes_varlen(query, key, dropout):
        return varlen_attention(query, key, value, plan, scaling)
    return masked_attention(query, key, value, plan, scaling, dropout)


def _decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prompts: tuple[Tensor, Tensor],
    plan: SharedPrompts,
    scaling: float | None,
) -> Tensor:
    """One new token per row, [P x G, heads, 1, D]; `key` and `value` hold each row's answer only.

    The queries of a group, and the query heads that share a key head, attend to the prompt in one
    call: its keys are read once, not once per row.
    """
    P, heads, _, D = prompts[0].shape
    B, num_query_heads = query.shape[:2]
    G, per_head = B // P, num_query_heads // heads
    scale = D**-0.5 if scaling is None else scaling
    own = attend(query.reshape(B, heads, per_head, D), key, value, plan.unwritten, scale)
    # [P, G, heads, per_head, D] -> [P, heads, G x per_head, D]
    grouped = query.reshape(P, G, heads, per_head, D).transpose(1, 2)
    out, lse = attend(grouped.reshape(P, heads, G * per_head, D), *prompts, plan.padding, scale)
    out = out.reshape(P, heads, G, per_head, D).transpose(1, 2).reshape(B, heads, per_head, D)
    lse = lse.reshape(P, heads, G, per_head).transpose(1, 2).reshape(B, heads, per_head)
    return merged((out, lse), own).reshape(B, num_query_heads, 1, D)


def register() -> None:
    """Register the name with transformers; a second call changes nothing."""
    AttentionInterface.register(NAME, group_attention)
    # Passes without a plan need the masks that sdpa needs.
    AttentionMaskInterface.register(NAME, sdpa_mask)
