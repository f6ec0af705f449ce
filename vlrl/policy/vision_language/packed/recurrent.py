"""Gated delta layers in a packed row: the prompt's state is computed once and forked.

    prompts   [P, L]  -> their outputs, the recurrent state after each, the last inputs of the
                         short convolution
    answers   [A, T]  -> each from its prompt's state and last inputs, with gradients into both

Exact: the same sums as for A rows that each hold the prompt. Padding on the right has beta = 0 and
decay 1, so that it changes no state. transformers' own functions compute both passes (on CUDA the
fla kernels, whose arguments are the same). Layers: Qwen3.5, Qwen3-Next (arXiv 2412.06464).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from vlrl.policy.vision_language.packed.plan import PackedGroups

if TYPE_CHECKING:
    from transformers import Cache

    Layer = Any
    """A gated delta layer of transformers."""


class ForkedState:
    """A gated delta layer whose rows may be packed; mixed into transformers' own class."""

    def forward(
        self,
        hidden_states: Tensor,
        cache_params: Cache | None = None,
        attention_mask: Tensor | None = None,
        groups: object = None,
        **kwargs: Any,
    ) -> Tensor:
        """[R, L, D] -> [R, L, D]; with a plan of packed groups R = 1."""
        if isinstance(groups, PackedGroups):
            return _packed(self, hidden_states, groups, cache_params)
        return super().forward(  # type: ignore[misc]
            hidden_states, cache_params=cache_params, attention_mask=attention_mask, **kwargs
        )


@cache
def _forked(kind: Any) -> Any:
    return type(f"Forked{kind.__name__}", (ForkedState, kind), {})


def use_in(model: nn.Module, names: Sequence[str]) -> None:
    """Let the layers of these classes fork their state; the parameters stay the same objects."""
    for layer in model.modules():
        if type(layer).__name__ in names:
            kind: Any = type(layer)
            layer.__class__ = _forked(kind)


def _packed(layer: Layer, hidden: Tensor, groups: PackedGroups, kept: Cache | None) -> Tensor:
    mixed = layer.in_proj_qkv(hidden)[0]  # [L, C]
    beta = layer.in_proj_b(hidden)[0].sigmoid()
    decay = softplus(layer.in_proj_a(hidden)[0].float() + layer.dt_bias)
    decay = -layer.A_log.float().exp() * decay
    spans = groups.spans
    starts = [span.start for span in spans]
    lengths = [span.num_prompt_tokens for span in spans]
    width: int = layer.conv_kernel_size
    has_answers = any(sum(span.lengths) for span in spans)
    nothing = mixed.new_zeros(len(spans), width, mixed.shape[1])
    out = hidden.new_zeros(len(mixed), layer.num_v_heads, layer.head_v_dim)
    found, states = _run(
        layer, (mixed, beta, decay), starts, lengths, nothing, None,
        with_state=has_answers or kept is not None,
    )  # fmt: skip
    out = _put(out, found, starts, lengths)
    last = torch.stack(
        [
            _last(mixed[start : start + length], width)
            for start, length in zip(starts, lengths, strict=True)
        ]
    )
    if kept is not None:
        assert states is not None
        kept.update_conv_state(last.transpose(1, 2), layer.layer_idx, conv_kernel_size=width)
        kept.update_recurrent_state(states, layer.layer_idx)
    if has_answers:
        starts, lengths, owners = _answers(groups)
        owner = torch.tensor(owners, device=hidden.device)
        assert states is not None
        found, _ = _run(
            layer, (mixed, beta, decay), starts, lengths, last[owner], states[owner],
            with_state=False,
        )  # fmt: skip
        out = _put(out, found, starts, lengths)
    gate = layer.in_proj_z(hidden).reshape(-1, layer.head_v_dim)
    out = layer.norm(out.reshape(-1, layer.head_v_dim), gate)
    return layer.out_proj(out.reshape(1, len(mixed), -1))


def _answers(groups: PackedGroups) -> tuple[list[int], list[int], list[int]]:
    """First column, length and group of every answer that is not empty."""
    starts: list[int] = []
    lengths: list[int] = []
    owners: list[int] = []
    for owner, span in enumerate(groups.spans):
        at = span.end_of_prompt
        for length in span.lengths:
            if length:
                starts.append(at)
                lengths.append(length)
                owners.append(owner)
            at += length
    return starts, lengths, owners


def _run(
    layer: Layer,
    row: tuple[Tensor, Tensor, Tensor],
    starts: Sequence[int],
    lengths: Sequence[int],
    before: Tensor,
    state: Tensor | None,
    *,
    with_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Parts of a row as a batch, padded on the right: outputs [N, longest, heads, D] and states.

    row: the convolution's inputs [L, C], beta and decay [L, heads]. before: inputs before each
    part, [N, width, C]. state: at its start, [N, heads, K, V].
    """
    code = sys.modules[type(layer).__mro__[2].__module__]  # transformers' own module
    mixed, beta, decay = (_cut(part, starts, lengths) for part in row)
    width = before.shape[1]
    inputs = torch.cat([before, mixed], 1).transpose(1, 2)
    weight = layer.conv1d.weight.squeeze(1)
    made = code.causal_conv1d_fn(inputs, weight, layer.conv1d.bias, activation=layer.activation)
    made = made[:, :, width:].transpose(1, 2)
    query, key, value = made.split([layer.key_dim, layer.key_dim, layer.value_dim], -1)
    return code.torch_chunk_gated_delta_rule(
        query.unflatten(-1, (-1, layer.head_k_dim)),
        key.unflatten(-1, (-1, layer.head_k_dim)),
        value.unflatten(-1, (-1, layer.head_v_dim)),
        g=decay,
        beta=beta,
        initial_state=state,
        output_final_state=with_state,
        use_qk_l2norm_in_kernel=True,
    )


def _cut(row: Tensor, starts: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """Parts of a row [L, C] as a batch, [N, longest, C]; 0 after each."""
    longest = max(lengths)
    return torch.stack(
        [
            pad(row[start : start + length], (0, 0, 0, longest - length))
            for start, length in zip(starts, lengths, strict=True)
        ]
    )


def _put(out: Tensor, parts: Tensor, starts: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """The row with parts of a batch written into it."""
    columns = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
    flat = torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])
    return out.index_copy(0, columns.to(out.device), flat.to(out.dtype))


def _last(inputs: Tensor, width: int) -> Tensor:
    """The last inputs of the convolution, [width, C]; 0 before the first."""
    kept = inputs[-width:]
    return pad(kept, (0, 0, width - len(kept), 0))
