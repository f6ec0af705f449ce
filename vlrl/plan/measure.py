"""Runs a pass on the meta device and measures it: peak memory, arithmetic, bytes read and written.

Numbers with a fraction have shapes and no data; whole numbers (token ids, bounds of images) are
real and stay on the host, since models loop over them. Attention is counted as a fused kernel: its
scores are never in memory.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from vlrl.protocols.planned import Pass

aten = torch.ops.aten
META = torch.device("meta")
VIEWS = {
    "view", "t", "transpose", "unsqueeze", "expand", "slice", "_unsafe_view", "select", "split",
    "split_with_sizes", "detach", "alias", "permute", "squeeze", "as_strided", "unbind", "unfold",
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "lift_fresh",
}  # fmt: skip
"""Operations that launch no kernel."""
INDEXING = {"index", "index_put", "_unsafe_index"}
"""Operations whose second argument is a list of indices."""


@dataclass(frozen=True)
class Cost:
    """What a pass takes on one GPU."""

    peak_bytes: int
    """In memory at once beside the weights, at most."""
    kept_bytes: int
    """Still in memory at its end."""
    flops: float
    moved_bytes: float
    """Read and written by all kernels; weights included, once per kernel that reads them."""
    num_kernels: int
    num_calls: int
    """Operations that Python dispatches, views included."""


class Meter(TorchDispatchMode):
    """Counts what is alive and what is computed inside; parameters are not counted."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        own = [x for module in modules for x in (*module.parameters(), *module.buffers())]
        self.own = {x.untyped_storage()._cdata for x in own}
        self.live: dict[int, int] = {}
        self.now = self.peak = 0
        self.flops = self.moved = 0.0
        self.num_kernels = self.num_calls = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        inputs = _tensors((*args, *kwargs.values()))
        name = func._schema.name.partition("::")[2]
        if name.rstrip("_") in INDEXING:
            args = (args[0], _numbered(args[1]), *args[2:])
        if name == "_to_copy" and _changes_device(inputs[0], kwargs):
            del kwargs["device"]  # whole numbers stay on the host, fractions on the meta device
        shapes: tuple[Any, Any] = (args, kwargs)
        if len({x.device.type for x in inputs}) > 1:
            shapes = tree_map_only(Tensor, _without_data, shapes)
        out = func(*shapes[0], **shapes[1])
        outputs = _tensors(out if isinstance(out, tuple | list) else (out,))
        for x in outputs:
            self._see(x)
        self.num_calls += 1
        if name.rstrip("_") not in VIEWS:
            self.num_kernels += 1
            self.moved += sum(map(_size, inputs)) + sum(map(_size, outputs))
            count = flop_registry.get(func._overloadpacket)
            if count is not None:
                self.flops += count(*args, **kwargs, out_val=out)
        return out

    def begin(self) -> None:
        """Count anew; what is alive stays so."""
        self.peak = self.now
        self.flops = self.moved = 0.0
        self.num_kernels = self.num_calls = 0

    def fused(self, flops: float, tensors: Sequence[Tensor]) -> None:
        """Count one kernel that is no operation of torch's here."""
        self.flops += flops
        self.moved += sum(map(_size, tensors))
        self.num_kernels += 1

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.own or key in self.live:
            return
        size = storage.nbytes()
        self.live[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among an operation's arguments or results, those in lists included."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [x for x in value if isinstance(x, Tensor)]
    return found


def _size(tensor: Tensor) -> float:
    return tensor.numel() * tensor.element_size()


def _changes_device(tensor: Tensor, kwargs: Mapping[str, Any]) -> bool:
    device = kwargs.get("device")
    return device is not None and torch.device(device).type != tensor.device.type


def _numbered(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with every mask of the host as the numbers of its places: their count is a shape."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and index.device.type != "meta":
            found += index.nonzero(as_tuple=True)
        else:
            found.append(index)
    return found


def _without_data(tensor: Tensor) -> Tensor:
    if tensor.device.type == "meta":
        return tensor
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)


@contextmanager
def fused_attention(meter: Meter) -> Iterator[None]:
    """Inside, torch's attention keeps what fused kernels keep, in every module that imported it.

    No TorchFunctionMode: those are off in backward passes, where checkpointed layers run again.
    """
    name = "scaled_dot_product_attention"
    original = torch.nn.functional.scaled_dot_product_attention
    places = [m for m in list(sys.modules.values()) if vars(m).get(name) is original]
    for module in places:
        setattr(module, name, partial(_attend, meter))
    try:
        yield
    finally:
        for module in places:
            setattr(module, name, original)


def _attend(
    meter: Meter,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **kwargs: Any,
) -> Tensor:
    return _Attention.apply(meter, query, key, value, attn_mask, is_causal)


class _Saved(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]
    meter: Meter
    flops: float


class _Attention(torch.autograd.Function):
    """[B, heads, L, D] in and out; FlashAttention-2 (arXiv 2307.08691) keeps out and log-sums."""

    @staticmethod
    def forward(
        ctx: _Saved,
        meter: Meter,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        # As torch's kernels lay it out: heads last but one, which later views rely on.
        shape = (*query.shape[:-1], value.shape[-1])
        out = query.new_empty(_swapped(shape)).transpose(-2, -3)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        pairs = query.shape[:-1].numel() * key.shape[-2] * (0.5 if causal else 1.0)
        ctx.meter, ctx.flops = meter, 2 * pairs * (query.shape[-1] + value.shape[-1])
        meter.fused(ctx.flops, (query, key, value, out))
        kept = () if mask is None else (mask,)
        ctx.save_for_backward(query, key, value, out, sums, *kept)
        return out

    @staticmethod
    def backward(ctx: _Saved, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, *_ = ctx.saved_tensors
        ctx.meter.fused(2.5 * ctx.flops, (query, key, value, out, grads[0]))
        return None, *(torch.empty_like(x) for x in (query, key, value)), None, None


def _swapped(shape: Sequence[int]) -> tuple[int, ...]:
    *front, heads, length, width = shape
    return (*front, length, heads, width)


def training_cost(modules: Sequence[nn.Module], forward: Callable[[], Tensor]) -> Cost:
    """Of a forward and a backward pass; gradients leave as soon as they are there, as in ZeRO."""
    module = modules[0]
    module.train()
    handles = [
        p.register_post_accumulate_grad_hook(_drop) for p in module.parameters() if p.requires_grad
    ]
    meter = Meter(modules)
    try:
        with fused_attention(meter), meter:
            forward().backward()
    finally:
        for handle in handles:
            handle.remove()
    return _cost(meter)


@torch.no_grad()
def inference_cost(modules: Sequence[nn.Module], run: Callable[[], object]) -> Cost:
    """Of a pass without gradient."""
    modules[0].eval()
    meter = Meter(modules)
    with fused_attention(meter), meter:
        run()
    return _cost(meter)


@torch.no_grad()
def sampling_costs(modules: Sequence[nn.Module], passes: Sequence[Pass]) -> list[Cost]:
    """Of passes without gradient, one after another; what they return stays in memory."""
    modules[0].eval()
    meter = Meter(modules)
    kept: list[object] = []
    costs = []
    with fused_attention(meter), meter:
        for one in passes:
            kept.append(one.run())
            costs.append(_cost(meter))
            meter.begin()
    return costs


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _cost(meter: Meter) -> Cost:
    return Cost(meter.peak, meter.now, meter.flops, meter.moved, meter.num_kernels, meter.num_calls)
