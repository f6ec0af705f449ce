"""Attention in which the answers of a group share their prompt's keys and values.

    update    one row [ prompt | answer 1 | ... | answer G | next group's prompt | ... ]
              prompt x prompt, causal; then blocks of answers x [ prompt | the block ], masked;
              on CUDA in half precision without a mask: see split_attention.py
    decoding  G queries a group x the one prompt, and each query x its own answer so far

Nothing is padded in the update, and the prompt is repeated in neither. Exact: the same sums as G
rows that hold the prompt each. Registered with transformers' AttentionInterface, so that no model
is patched; a forward pass without a plan is transformers' own sdpa. Idea: PrefixGrouper, arXiv
2506.05433, which splits a group's attention in two calls but repeats the prompt's keys G times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vlrl.policy.split_attention import serves, split_attention

NAME = "vlrl_group"


@dataclass(frozen=True)
class Block:
    """Some answers of one group: they attend to the prompt and each to itself."""

    start: int
    """First column of the block's answers."""
    stop: int
    lengths: tuple[int, ...]
    """Of the answers, tokens."""
    mask: Tensor
    """True = may attend, [block, prompt + block]."""


@dataclass(frozen=True)
class GroupSpan:
    """Where one group lies in the row."""

    start: int
    end_of_prompt: int
    blocks: tuple[Block, ...]

    @property
    def stop(self) -> int:
        """The column after the group's last answer."""
        return self.blocks[-1].stop if self.blocks else self.end_of_prompt


@dataclass(frozen=True)
class PackedGroups:
    """The plan of an update's forward pass: all groups of one row, side by side."""

    spans: tuple[GroupSpan, ...]

    def to(self, device: torch.device) -> PackedGroups:
        """With its masks on that device: sent once a pass, not once a layer."""
        spans = []
        for span in self.spans:
            blocks = tuple(replace(block, mask=block.mask.to(device)) for block in span.blocks)
            spans.append(replace(span, blocks=blocks))
        return PackedGroups(tuple(spans))


@dataclass(frozen=True)
class SharedPrompts:
    """The plan of a decoding step: prompts' keys and values, kept once a group."""

    layers: Sequence[tuple[Tensor, Tensor]]
    """Keys and values of each layer's prompts, [P, heads, L, D] each."""
    padding: Tensor
    """0 where a prompt has a token, very negative elsewhere, [P, 1, 1, L]."""
    num_each: int

    def select(self, groups: Tensor, num_each: int) -> SharedPrompts:
        """Some groups, each with another number of rows."""
        if len(groups) == len(self.padding):
            return SharedPrompts(self.layers, self.padding, num_each)  # all stay: no copy
        layers = [(keys[groups], values[groups]) for keys, values in self.layers]
        return SharedPrompts(layers, self.padding[groups], num_each)


def span_of(start: int, num_prompt_tokens: int, lengths: Sequence[int]) -> GroupSpan:
    """A group's place and its blocks: answers in order, about a prompt's length together.

    A block's answers are masked from each other, at a cost of its length squared; blocks no
    longer than the prompt keep that below the cost of looking at the prompt.
    """
    first = start + num_prompt_tokens
    blocks: list[Block] = []
    column, pending = first, list[int]()
    for length in lengths:
        if pending and sum(pending) + length > num_prompt_tokens:
            blocks.append(_block(column, num_prompt_tokens, pending))
            column, pending = blocks[-1].stop, []
        pending.append(length)
    if sum(pending):
        blocks.append(_block(column, num_prompt_tokens, pending))
    return GroupSpan(start, first, tuple(blocks))


def _block(start: int, num_prompt_tokens: int, lengths: Sequence[int]) -> Block:
    answers = torch.block_diag(*(torch.ones(n, n, dtype=torch.bool).tril() for n in lengths))
    prompt = torch.ones(len(answers), num_prompt_tokens, dtype=torch.bool)
    mask = torch.cat([prompt, answers.bool()], 1)
    return Block(start, start + len(answers), tuple(lengths), mask)


def group_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    groups: PackedGroups | SharedPrompts | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention under a plan; [B, heads, L, D] in, [B, L, heads, D] out, as transformers wants."""
    if groups is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if isinstance(groups, SharedPrompts):
        prompts = groups.layers[int(module.layer_idx)]  # type: ignore[arg-type]
        return _decode(query, key, value, prompts, groups, scaling).transpose(1, 2), None
    repeats = int(getattr(module, "num_key_value_groups", 1))
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    splits = serves(query, dropout)
    parts = []
    for span in groups.spans:
        own = slice(span.start, span.end_of_prompt)
        k_prompt, v_prompt = key[:, :, own], value[:, :, own]
        parts.append(
            scaled_dot_product_attention(
                query[:, :, own], k_prompt, v_prompt, dropout_p=dropout, scale=scaling,
                is_causal=True,
            )
        )  # fmt: skip
        if splits and span.blocks:
            answers = slice(span.end_of_prompt, span.stop)
            three = (query[:, :, answers], key[:, :, answers], value[:, :, answers])
            lengths = [n for block in span.blocks for n in block.lengths if n]
            parts.append(split_attention(three, (k_prompt, v_prompt), lengths, scaling))
            continue
        for block in span.blocks:
            answers = slice(block.start, block.stop)
            if block.start == span.end_of_prompt:  # next to its prompt: no copy
                k_seen = key[:, :, span.start : block.stop]
                v_seen = value[:, :, span.start : block.stop]
            else:
                k_seen = torch.cat([k_prompt, key[:, :, answers]], 2)
                v_seen = torch.cat([v_prompt, value[:, :, answers]], 2)
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, answers], k_seen, v_seen, dropout_p=dropout, scale=scaling,
                    attn_mask=block.mask,
                )
            )  # fmt: skip
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def _decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prompts: tuple[Tensor, Tensor],
    plan: SharedPrompts,
    scaling: float | None,
) -> Tensor:
    """One new token a row, [P x G, heads, 1, D]; `key` and `value` hold the own answers only.

    The queries of a group, and the query heads that share a key head, go against the prompt
    together: its keys are read once, not once a row.
    """
    k_prompt, v_prompt = prompts
    P, heads, L, D = k_prompt.shape
    B, num_query_heads = query.shape[:2]
    G, per_head = B // P, num_query_heads // heads
    scale = D**-0.5 if scaling is None else scaling
    # [P, G, heads, per_head, D] -> [P, heads, G x per_head, D]
    grouped = query.reshape(P, G, heads, per_head, D).transpose(1, 2)
    flat = grouped.reshape(P, heads, G * per_head, D)
    to_prompt = (flat @ k_prompt.transpose(-1, -2)).float() * scale + plan.padding
    own_query = query.reshape(B, heads, per_head, D)
    to_own = (own_query @ key.transpose(-1, -2)).float() * scale
    T = to_own.shape[-1]
    to_own = to_own.reshape(P, G, heads, per_head, T).transpose(1, 2)
    scores = torch.cat([to_prompt.reshape(P, heads, G, per_head, L), to_own], -1)
    weights = scores.softmax(-1).to(query.dtype)
    from_prompt = weights[..., :L].reshape(P, heads, G * per_head, L) @ v_prompt
    own_weights = weights[..., L:].transpose(1, 2).reshape(B, heads, per_head, T)
    from_own = own_weights @ value
    from_prompt = from_prompt.reshape(P, heads, G, per_head, D).transpose(1, 2)
    total = from_prompt.reshape(B, num_query_heads, 1, D)
    return total + from_own.reshape(B, num_query_heads, 1, D)


def register() -> None:
    """Make the name known to transformers; a second call changes nothing."""
    AttentionInterface.register(NAME, group_attention)
    # Passes without a plan need the masks that sdpa needs.
    AttentionMaskInterface.register(NAME, sdpa_mask)
