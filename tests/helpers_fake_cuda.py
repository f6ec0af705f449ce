"""CUDA tensors without a driver: they have shapes and a device, and no data.

Tensors on the CPU stay real. A tensor that is not where the others are is an error, as on a GPU,
and so is a value that the host reads from the device: `.item()`, a bool, a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)


class _OnTheHost(TorchDispatchMode):
    """Keeps what is on the CPU real, below a mode that would make all tensors fake."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if func is torch.ops.aten.isin.Tensor_Tensor and isinstance(given[0], FakeTensor):
            # From so many on torch sorts them, and its kernel for that waits for the device.
            assert given[1].numel() < 10 * given[0].numel() ** 0.145, "isin waits"
        goes_there = torch.device(kwargs.get("device") or "cpu").type == "cuda"
        if goes_there or any(isinstance(x, FakeTensor) for x in given):
            return func(*args, **kwargs)
        with unset_fake_temporarily():
            return func(*args, **kwargs)


@contextmanager
def fake_cuda(*modules: nn.Module, dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Inside, modules are on a GPU in half precision, and whatever is sent there is fake."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for module in modules:
            for part in module.modules():
                _move(part, dtype)
        with _OnTheHost():
            yield


def _move(part: nn.Module, dtype: torch.dtype) -> None:
    for name, tensor in part._parameters.items():
        if tensor is not None:
            part._parameters[name] = nn.Parameter(_there(tensor, dtype), requires_grad=False)
    for name, tensor in part._buffers.items():
        if tensor is not None:
            part._buffers[name] = _there(tensor, dtype)


def _there(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=kind, device=CUDA)
