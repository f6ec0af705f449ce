"""One fused attention call that also returns its log-sum-exp, so that calls can be merged.

Scores and softmax are in float32 whatever the inputs are; only the output is rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention [B, heads, Q, D] and its log-sum-exp, float32 [B, heads, Q]; for no gradient.

    bias: added to the scores, of the query's type, [B or 1, 1, 1, K], or None; on CUDA its rows
    must start at multiples of 16 bytes (K a multiple of 8).
    """
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=bias, scale=scale
        )
    if query.device.type in ("cuda", "meta"):
        if bias is not None:
            bias = bias.expand(*query.shape[:3], -1)
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, True, scale=scale
        )
        return out, lse[..., : query.shape[2]]  # the kernel pads to a multiple of 32
    return _plain(query, key, value, bias, scale)


def merged(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """The softmax over both calls' keys, from their outputs [..., D] and log-sum-exps [...]."""
    (a, a_lse), (b, b_lse) = first, second
    share = torch.sigmoid(a_lse - b_lse)[..., None]
    return torch.lerp(b.float(), a.float(), share).to(a.dtype)


def _plain(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The same on other devices, without a fused kernel."""
    scores = query.float() @ key.float().transpose(-1, -2) * scale
    if bias is not None:
        scores = scores + bias
    lse = scores.logsumexp(-1)
    return ((scores - lse[..., None]).exp() @ value.float()).to(query.dtype), lse
