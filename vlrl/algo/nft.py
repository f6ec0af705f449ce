"""DiffusionNFT: learn from rewards by regression on noised final images, without log-probs.

The velocity of now is mixed with the one that sampled into two implicit policies, a better and a
worse one, and each is fitted to the images in proportion to how good, or bad, they are:

    v+ = (1 - beta) v_old + beta v,    v- = (1 + beta) v_old - beta v
    loss = scale / beta * (r e(v+) + (1 - r) e(v-))

Source: DiffusionNFT (arXiv 2509.16117), eq. 5 and 8, and its code for the weights.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

State = Float[Tensor, "R *state"]
"""A latent image, or its velocity, per row."""
Rows = Float[Tensor, " R"]

MIN_ERROR = 1e-5


def optimality(advantage: Rows, scale: float) -> Rows:
    """r: probability of being good, in [0, 1]; 0.5 for the average image."""
    return (0.5 + advantage / (2 * scale)).clamp(0, 1)


def nft_loss(
    v: State,
    v_old: State,
    x: State,
    clean: State,
    sigma: Rows,
    r: Rows,
    *,
    beta: float,
    scale: float,
) -> Rows:
    """Loss of each noised image, x = (1 - sigma) clean + sigma noise.

    Errors are those of the predicted clean image, divided by their own mean size without
    gradient, so that every noise level weighs alike.
    """
    level = sigma.view(-1, *([1] * (x.dim() - 1)))

    def error(velocity: State) -> Rows:
        wrong = (x.float() - level * velocity - clean.float()).flatten(1)
        size = wrong.detach().abs().mean(1).clamp(min=MIN_ERROR)
        return wrong.square().mean(1) / size

    v_old = v_old.detach().float()
    better = error(v_old + beta * (v.float() - v_old))
    worse = error(v_old - beta * (v.float() - v_old))
    return (r * better + (1 - r) * worse) * scale / beta
