"""A group's answers in two flash calls: against their prompt, and each against itself.

    answers [sum T] x prompt [P]         every answer token sees the whole prompt, no mask
    answers [G, T]  x the same [G, T]    causal, one row an answer, padded on the right
    merged by their log-sum-exps         the softmax over both, exactly

A masked call must use a slower kernel on CUDA; here both calls are plain flash attention. The
gradient is exact as well: flash attention's backward pass needs of the softmax only its output
and its log-sum-exp, so each half is given the merged ones. Formula: Dao et al., FlashAttention-2
(arXiv 2307.08691), section 3.1; the merging is that of split keys (Flash-Decoding).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_Half = tuple[Tensor, Tensor, tuple[Any, ...]]
_CHECKED: dict[tuple[Any, ...], bool] = {}


def split_attention(
    answers: tuple[Tensor, Tensor, Tensor],
    prompt: tuple[Tensor, Tensor],
    lengths: Sequence[int],
    scale: float | None = None,
) -> Tensor:
    """Attention of answers laid end to end, [1, heads, sum T, D].

    answers: query, key, value, [1, heads, sum T, D] each; prompt: key, value, [1, heads, P, D].
    lengths: of the answers in order, tokens, none of them 0.
    """
    return _Split.apply(*answers, *prompt, tuple(lengths), scale)


def serves(query: Tensor, dropout: float) -> bool:
    """Whether the two calls are right and there on this device, tried once a device and type.

    Not on CPU, where little is gained (benchmarks/answer_attention.py). Says so loudly where the
    kernels are missing or wrong, and the masked calls serve instead.
    """
    if query.device.type != "cuda" or query.dtype not in (torch.float16, torch.bfloat16) or dropout:
        return False
    kind = (query.device, query.dtype, query.shape[-1])
    if kind not in _CHECKED:
        _CHECKED[kind] = _agrees(query)
    return _CHECKED[kind]


@torch.enable_grad()
def _agrees(like: Tensor) -> bool:
    """Values and gradients of a small case beside a float32 softmax, on the device of `like`."""
    make = torch.Generator().manual_seed(0)
    lengths, P, heads, D = (3, 5, 1), 7, 2, like.shape[-1]
    shapes = [sum(lengths)] * 3 + [P] * 2
    wide = [torch.randn(1, heads, n, D, generator=make).to(like.device) for n in shapes]
    weight = torch.randn(wide[0].shape, generator=make).to(like.device)
    try:
        ours = [x.to(like.dtype).requires_grad_() for x in wide]
        out = split_attention((ours[0], ours[1], ours[2]), (ours[3], ours[4]), lengths)
        found = [out, *torch.autograd.grad((out.float() * weight).sum(), ours)]
    except (RuntimeError, NotImplementedError, TypeError) as error:
        log.warning("no split flash attention on %s (%s): masked calls instead", like.device, error)
        return False
    theirs = [x.to(like.dtype).float().requires_grad_() for x in wide]
    out = _plainly(theirs, lengths)
    wanted = [out.detach(), *torch.autograd.grad((out * weight).sum(), theirs)]
    pairs = zip(found, wanted, strict=True)
    gap = max(float((ours.detach().float() - plain).abs().max()) for ours, plain in pairs)
    if not gap < 0.1:
        log.warning(
            "split flash attention on %s is off by %.3g: masked calls instead", like.device, gap
        )
    return gap < 0.1


def _plainly(inputs: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """The same by one softmax over a dense mask."""
    query, key, value, prompt_key, prompt_value = inputs
    own = torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()
    mask = torch.cat([own.new_ones(len(own), prompt_key.shape[2]), own], 1).to(query.device)
    keys, values = torch.cat([prompt_key, key], 2), torch.cat([prompt_value, value], 2)
    scores = query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ values


class _Split(torch.autograd.Function):
    """The merged softmax with the backward pass that two flash calls share."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prompt_key: Tensor,
        prompt_value: Tensor,
        lengths: tuple[int, ...],
        scale: float | None,
    ) -> Tensor:
        q, k, v = (_to_rows(x, lengths) for x in (query, key, value))
        seen, seen_lse, seen_rest = _flash(query, prompt_key, prompt_value, False, scale)
        mine, mine_lse, mine_rest = _flash(q, k, v, True, scale)
        mine, mine_lse = _to_line(mine, lengths), _to_line(mine_lse[..., None], lengths)[..., 0]
        lse = torch.logaddexp(seen_lse, mine_lse)
        out = seen.float() * (seen_lse - lse).exp()[..., None]
        out = (out + mine.float() * (mine_lse - lse).exp()[..., None]).to(query.dtype)
        ctx.save_for_backward(query, key, value, prompt_key, prompt_value, out, lse)
        ctx.lengths, ctx.scale, ctx.rest = lengths, scale, (seen_rest, mine_rest)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        query, key, value, prompt_key, prompt_value, out, lse = ctx.saved_tensors
        grad, lengths = grads[0].contiguous(), ctx.lengths
        seen_rest, mine_rest = ctx.rest
        dq, dpk, dpv = _flash_backward(
            grad, query, prompt_key, prompt_value, out, lse, seen_rest, False, ctx.scale
        )
        g, q, k, v, o = (_to_rows(x, lengths) for x in (grad, query, key, value, out))
        g = g * _places(lengths, g.device)[2]
        rows_lse = _to_rows(lse[..., None], lengths)[..., 0].contiguous()
        own = _flash_backward(g, q, k, v, o, rows_lse, mine_rest, True, ctx.scale)
        dq_own, dk, dv = (_to_line(x, lengths) for x in own)
        return dq + dq_own, dk, dv, dpk, dpv, None, None


@functools.lru_cache(maxsize=64)
def _places(lengths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where each place of the rows lies in the line [G x T], the line's in the rows [sum T], and
    which places of the rows are real, [G, 1, T, 1].

    Made once a plan, not once a layer. Places of padding show some real token: under a causal
    mask no real token sees them, and their gradient is masked.
    """
    sizes = torch.tensor(lengths)
    place = torch.arange(int(sizes.max()))
    real = place < sizes[:, None]
    starts = sizes.cumsum(0) - sizes
    in_line = (starts[:, None] + place).where(real, starts[:, None]).flatten()
    in_rows = real.flatten().nonzero()[:, 0]
    return in_line.to(device), in_rows.to(device), real[:, None, :, None].to(device)


def _to_rows(line: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """[1, heads, sum T, D] -> [G, heads, T, D], padded on the right."""
    in_line, _, _ = _places(lengths, line.device)
    rows = line[0].index_select(1, in_line)
    return rows.unflatten(1, (len(lengths), -1)).transpose(0, 1)


def _to_line(rows: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """The other way round."""
    _, in_rows, _ = _places(lengths, rows.device)
    return rows.transpose(0, 1).flatten(1, 2).index_select(1, in_rows)[None]


def _flash(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None) -> _Half:
    """Output, log-sum-exp [B, heads, L] in float32, and what the backward pass wants besides."""
    ops = torch.ops.aten
    if query.device.type == "cpu":
        out, lse = ops._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scale
        )
        return out, lse, ()
    out, lse, *rest = ops._scaled_dot_product_flash_attention(
        query, key, value, 0.0, causal, False, scale=scale
    )
    cum_q, cum_k, max_q, max_k, seed, offset = rest[:6]
    return out, lse, (cum_q, cum_k, max_q, max_k, seed, offset)


def _flash_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    rest: tuple[Any, ...],
    causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    ops = torch.ops.aten
    if query.device.type == "cpu":
        return ops._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, query, key, value, out, lse, 0.0, causal, scale=scale
        )
    cum_q, cum_k, max_q, max_k, seed, offset = rest
    return ops._scaled_dot_product_flash_attention_backward(
        grad, query, key, value, out, lse, cum_q, cum_k, max_q, max_k, 0.0, causal, seed, offset,
        scale=scale,
    )  # fmt: skip
