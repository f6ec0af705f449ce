"""DiffusionNFT: learn from rewards by regression on noised final images, without log-probs.

The velocity of now is mixed with the one that sampled into two implicit policies, a better and a
worse one, and each is fitted to the images in proportion to how good, or bad, they are:

    v+ = (1 - beta) v_old + beta v,    v- = (1 + beta) v_old - beta v
    loss = scale / beta * (r e(v+) + (1 - r) e(v-))

Source: DiffusionNFT (arXiv 2509.16117), eq. 5 and 8, and its code for the weights.
"""

from __future__ import annotations

from torch import Tensor

MIN_ERROR = 1e-5


def optimality(advantage: Tensor, scale: float) -> Tensor:
    """r: probability of being good, 0.5 for the average image; [R] -> [R] in [0, 1]."""
    return (0.5 + advantage / (2 * scale)).clamp(0, 1)


def nft_loss(
    v: Tensor,
    v_old: Tensor,
    x: Tensor,
    clean: Tensor,
    sigma: Tensor,
    r: Tensor,
    *,
    beta: float,
    scale: float,
) -> Tensor:
    """Loss of each noised image, [R].

    v, v_old, x, clean: [R, C, H, W], with x = (1 - sigma) clean + sigma noise; sigma, r: [R].
    Errors are those of the predicted clean image, divided by their own mean size without
    gradient, so that every noise level weighs alike.
    """
    level = sigma.view(-1, *([1] * (x.dim() - 1)))

    def error(velocity: Tensor) -> Tensor:
        wrong = (x.float() - level * velocity - clean.float()).flatten(1)
        size = wrong.detach().abs().mean(1).clamp(min=MIN_ERROR)
        return wrong.square().mean(1) / size

    v_old = v_old.detach().float()
    better = error(v_old + beta * (v.float() - v_old))
    worse = error(v_old - beta * (v.float() - v_old))
    return (r * better + (1 - r) * worse) * scale / beta
