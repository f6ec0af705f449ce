"""Losses of a discriminator between references and generated samples; pure functions.

Logits are high for references. Sums are divided by global counts, so that several ranks take
exactly the step of one rank.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def hinge(real: Tensor, fake: Tensor, num_real: float, num_fake: float) -> Tensor:
    """(mean relu(1 - real) + mean relu(1 + fake)) / 2.

    Source: Lim and Ye (arXiv 1705.02894); halved as in Adv-GRPO's code (arXiv 2511.20256).
    """
    return 0.5 * (
        functional.relu(1 - real).sum() / num_real + functional.relu(1 + fake).sum() / num_fake
    )


def logistic(real: Tensor, fake: Tensor, num_real: float, num_fake: float) -> Tensor:
    """(mean softplus(-real) + mean softplus(fake)) / 2: binary cross-entropy of the two classes."""
    return 0.5 * (
        functional.softplus(-real).sum() / num_real + functional.softplus(fake).sum() / num_fake
    )


LOSSES = {"hinge": hinge, "logistic": logistic}


def gradient_penalty(logits: Tensor, inputs: Tensor) -> Tensor:
    """Sum over rows of |d logit / d input|^2, with a graph; logits: [N], inputs: [N, D].

    Source: the zero-centred penalty R1 (Mescheder et al., arXiv 1801.04406), on features of a
    frozen backbone instead of pixels.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return gradient.square().sum()


def pair_preference(preferred: Tensor, other: Tensor) -> Tensor:
    """Bradley-Terry: -log sigmoid(preferred - other), one per pair; both of the same shape.

    The two-way cross-entropy of PickScore's training, with the preferred image as the label.
    """
    return functional.softplus(other - preferred)
