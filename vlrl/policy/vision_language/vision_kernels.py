"""A vision tower in larger calls: the same sums as transformers' own, with unchanged weights.

    patches [S] -> one matrix product (a convolution there, whose stride is its kernel)
    patches [S], cut into windows -> windows of one length [W, heads, L, D] -> back in order

transformers' sdpa path calls attention once per window and layer: at 4,096 visual tokens, 256
windows in each of Qwen2.5-VL's 28 windowed layers. Here it is one call per length, and most windows
have the same length; images or frames of one size share a call too. Exact: each window is a row of
its own in the batch.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AttentionInterface

from vlrl.families.interfaces import VisionTower

NAME = "vlrl_flash_windows"
"""transformers passes the windows' bounds if the name contains `flash`, and loops otherwise."""
_SIZES: MutableMapping[Tensor, list[int]] = WeakIdKeyDictionary()
"""Of the bounds of passes that are under way: all layers get the same tensors."""


def window_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention inside windows; [1, heads, S, D] in, [1, S, heads, D] out, as in transformers.

    cu_seq_lens_q: first patch of each window, and the end of the last one, [num_windows + 1].
    """
    assert cu_seq_lens_q is not None
    assert attention_mask is None
    bounds = cu_seq_lens_q.long()
    lengths = bounds[1:] - bounds[:-1]
    sizes = _sizes(cu_seq_lens_q)
    three = [x[0].transpose(0, 1) for x in (query, key, value)]  # [S, heads, D]
    if len(sizes) == 1:
        out = _attend(three, int(sizes[0]), dropout, scaling)
        return out[None], None
    orders, parts = [], []
    for size in sizes:
        starts = bounds[:-1][lengths == size]
        order = (starts[:, None] + torch.arange(size, device=starts.device)).flatten()
        orders.append(order)
        parts.append(_attend([x[order] for x in three], size, dropout, scaling))
    back = torch.cat(orders).argsort()
    return torch.cat(parts)[back][None], None


def _sizes(bounds: Tensor) -> list[int]:
    """Lengths of the windows, each once; read from the device for the first layer alone."""
    if bounds not in _SIZES:
        _SIZES[bounds] = (bounds[1:] - bounds[:-1]).unique().tolist()
    return _SIZES[bounds]


def _attend(three: list[Tensor], size: int, dropout: float, scaling: float | None) -> Tensor:
    """Windows of one length, end to end: [W x L, heads, D] each in and out."""
    query, key, value = (x.unflatten(0, (-1, size)).transpose(1, 2) for x in three)
    out = scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
    return out.transpose(1, 2).flatten(0, 1)


class PatchProduct(nn.Conv3d):
    """The convolution that embeds patches, each of which is exactly one kernel's input."""

    def forward(self, input: Tensor) -> Tensor:
        """[S, C, frames, height, width] -> [S, width of the tower, 1, 1, 1]."""
        out = linear(input.flatten(1), self.weight.flatten(1), self.bias)
        return out[..., None, None, None]


def use_in(tower: VisionTower) -> None:
    """Switch a vision tower to these kernels; attention only where it would loop over sdpa."""
    cut = tower.patch_embed.proj
    if type(cut) is nn.Conv3d and cut.stride == cut.kernel_size:
        cut.__class__ = PatchProduct  # the parameters stay the same objects, under their names
    if tower.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, window_attention)
        tower.config._attn_implementation = NAME
