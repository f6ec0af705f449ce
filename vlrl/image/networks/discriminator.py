"""A small trainable head on frozen features: reference or generated?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Discriminator(nn.Module):
    """Logits of whole images (CLS) and of their patches.

    Source: Adv-GRPO (arXiv 2511.20256): D -> width -> GELU -> 1. There one head serves both; here
    each has its own unless `shared`. Features are first normalised, without an affine part, so
    that training and reward see the same scale (the released code normalises for the reward only).
    """

    def __init__(self, dim: int, width: int, *, shared: bool, spectral: bool) -> None:
        super().__init__()
        self.dim = dim
        self.image = _head(dim, width, spectral)
        self.patch = self.image if shared else _head(dim, width, spectral)

    def forward(self, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """cls [N, D], patches [N, P, D] -> logits [N] and [N, P]."""
        return self.image(self.normal(cls))[..., 0], self.patch(self.normal(patches))[..., 0]

    def normal(self, features: Tensor) -> Tensor:
        """Features of mean 0 and variance 1, row by row."""
        return torch.nn.functional.layer_norm(features, (self.dim,))


def _head(dim: int, width: int, spectral: bool) -> nn.Sequential:
    first, last = nn.Linear(dim, width), nn.Linear(width, 1)
    if spectral:
        return nn.Sequential(spectral_norm(first), nn.GELU(), spectral_norm(last))
    return nn.Sequential(first, nn.GELU(), last)
