"""Trainable rewards on several ranks: the same start, summed gradients, the same step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed, nn


def summed(values: Sequence[float], device: torch.device) -> list[float]:
    """Sums over ranks, float64; the values themselves on one rank."""
    total = torch.tensor(values, dtype=torch.float64, device=device)
    if _several():
        distributed.all_reduce(total)
    return total.tolist()


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up gradients over ranks, in place; a rank without gradient adds 0."""
    if not _several():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


@torch.no_grad()
def start_alike(tensors: Iterable[Tensor]) -> None:
    """Take the values of rank 0."""
    if _several():
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def rank() -> int:
    """This process's rank; 0 on one."""
    return distributed.get_rank() if _several() else 0


def _several() -> bool:
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )
