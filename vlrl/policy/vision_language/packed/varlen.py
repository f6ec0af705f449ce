"""Packed groups by two flash calls over sequences of unequal length, for any number of groups.

    own    every prompt and every answer x itself, causal       the row itself, no copy
    seen   the answers of a group x their prompt, no mask       gathered, one sequence per group
    the two parts of an answer's token, merged by their log-sum-exps: exactly the softmax over both

Nothing is padded or masked, and keys are not repeated for the query heads that share them. The
gradient is exact as well: flash attention's backward pass needs only the output and log-sum-exp of
the softmax, so each call gets the merged ones. Formula: Dao, FlashAttention-2 (arXiv
2307.08691), section 3.1; the merging is that of split keys (Flash-Decoding). The idea of two calls:
PrefixGrouper (arXiv 2506.05433), which repeats the prompt's keys G times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from vlrl.policy.vision_language.packed.plan import Bounds, PackedGroups, Runs

_Half = tuple[Tensor, Tensor, tuple[Tensor, ...]]


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, plan: PackedGroups, scale: float | None = None
) -> Tensor:
    """The same as `masked_attention`, in half precision on CUDA; the CPU's kernels serve tests.

    query: [1, heads, L, D]; key, value: [1, key heads, L, D]; D a multiple of 8. Returns
    [1, heads, L, D].
    """
    rows = (x[0].transpose(0, 1) for x in (query, key, value))  # [L, heads, D]
    out = _TwoCalls.apply(*rows, plan.runs(query.device), scale)
    return out.transpose(0, 1)[None]


@dataclass(frozen=True)
class _Call:
    """One kernel call: which sequences of queries attend to which sequences of keys, and how."""

    queries: Bounds
    keys: Bounds
    causal: bool
    scale: float | None

    @property
    def bounds(self) -> tuple[Tensor, Tensor, int, int]:
        """Ends of the queries' and the keys' sequences, tokens of the longest of each."""
        queries, keys = self.queries, self.keys
        return queries.ends, keys.ends, max(queries.lengths), max(keys.lengths)


def _calls(runs: Runs, scale: float | None) -> tuple[_Call, _Call]:
    """Prompts and answers against themselves; answers against their prompts."""
    seen = _Call(runs.answers_by_group, runs.prompts_by_group, False, scale)
    return _Call(runs.own, runs.own, True, scale), seen


class _Kept(FunctionCtx):
    """What the backward pass reads."""

    saved_tensors: tuple[Tensor, ...]
    runs: Runs
    scale: float | None
    rest: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


class _TwoCalls(torch.autograd.Function):
    """The merged softmax with the backward pass that both calls share; all [L, heads, D]."""

    @staticmethod
    def forward(
        ctx: _Kept, query: Tensor, key: Tensor, value: Tensor, runs: Runs, scale: float | None
    ) -> Tensor:
        own_call, seen_call = _calls(runs, scale)
        out, lse, own_rest = _flash(query, key, value, own_call)
        seen_rest: tuple[Tensor, ...] = ()
        if len(runs.answers):
            seen, seen_lse, seen_rest = _flash(
                query[runs.answers], key[runs.prompts], value[runs.prompts], seen_call
            )
            own, own_lse = out[runs.answers], lse[:, runs.answers]
            both_lse = torch.logaddexp(seen_lse, own_lse)
            both = seen.float() * _weight(seen_lse, both_lse)
            both += own.float() * _weight(own_lse, both_lse)
            out = out.index_copy(0, runs.answers, both.to(out.dtype))
            lse = lse.index_copy(1, runs.answers, both_lse)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.runs, ctx.scale, ctx.rest = runs, scale, (own_rest, seen_rest)
        return out

    @staticmethod
    def backward(ctx: _Kept, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        runs, (own_rest, seen_rest) = ctx.runs, ctx.rest
        own_call, seen_call = _calls(runs, ctx.scale)
        grad = grads[0].contiguous()
        dq, dk, dv = _flash_backward(grad, query, key, value, out, lse, own_call, own_rest)
        if len(runs.answers):
            more = _flash_backward(
                grad[runs.answers], query[runs.answers], key[runs.prompts], value[runs.prompts],
                out[runs.answers], lse[:, runs.answers].contiguous(),
                seen_call, seen_rest,
            )  # fmt: skip
            dq = dq.index_add(0, runs.answers, more[0])
            dk = dk.index_add(0, runs.prompts, more[1])
            dv = dv.index_add(0, runs.prompts, more[2])
        return dq, dk, dv, None, None


def _weight(part_lse: Tensor, both_lse: Tensor) -> Tensor:
    """A part's share of the softmax, [heads, A] -> [A, heads, 1]."""
    return (part_lse - both_lse).exp().T[..., None]


def _flash(query: Tensor, key: Tensor, value: Tensor, call: _Call) -> _Half:
    """Output, log-sum-exp [heads, L] in float32, and what else the backward pass needs."""
    if query.device.type == "cpu":
        return _flash_on_cpu(query, key, value, call)
    out, lse, *rest = torch.ops.aten._flash_attention_forward(
        query, key, value, *call.bounds, 0.0, call.causal, False, scale=call.scale,
    )  # fmt: skip
    return out, lse, (rest[0], rest[1])


def _flash_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    call: _Call,
    rest: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    if query.device.type == "cpu":
        return _flash_backward_on_cpu(grad, query, key, value, out, lse, call)
    return torch.ops.aten._flash_attention_backward(
        grad, query, key, value, out, lse, *call.bounds, 0.0, call.causal, *rest, scale=call.scale,
    )  # fmt: skip


def _flash_on_cpu(query: Tensor, key: Tensor, value: Tensor, call: _Call) -> _Half:
    """The same with the CPU's flash kernel, which takes one sequence at a time."""
    outs, lses = [], []
    for q, k, v in _sequences(query, key, value, call):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, call.causal, scale=call.scale
        )
        outs.append(out[0].transpose(0, 1))
        lses.append(lse[0])
    return torch.cat(outs), torch.cat(lses, -1), ()


def _flash_backward_on_cpu(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    call: _Call,
) -> tuple[Tensor, Tensor, Tensor]:
    num_key_heads = key.shape[1]
    found: tuple[list[Tensor], ...] = ([], [], [])
    parts = _sequences(query, key, value, call)
    ends = zip(grad.split(call.queries.lengths), out.split(call.queries.lengths),
               lse.split(call.queries.lengths, -1), strict=True)  # fmt: skip
    for (q, k, v), (g, o, one_lse) in zip(parts, ends, strict=True):
        g, o = (x.transpose(0, 1)[None] for x in (g, o))
        three = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            g, q, k, v, o, one_lse[None], 0.0, call.causal, scale=call.scale
        )
        for parts_of, part in zip(found, three, strict=True):
            parts_of.append(part[0].transpose(0, 1))
    dq, *rest = (torch.cat(each) for each in found)
    # The query heads that share a key head add up.
    dk, dv = (x.unflatten(1, (num_key_heads, -1)).sum(2) for x in rest)
    return dq, dk, dv


def _sequences(
    query: Tensor, key: Tensor, value: Tensor, call: _Call
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Each pair of sequences as [1, heads, L, D], keys repeated for every query head."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    three = (
        query.split(call.queries.lengths),
        key.split(call.keys.lengths),
        value.split(call.keys.lengths),
    )
    return [tuple(x.transpose(0, 1)[None] for x in each) for each in zip(*three, strict=True)]
