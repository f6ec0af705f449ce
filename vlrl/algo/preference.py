"""Direct preference optimisation (arXiv 2305.18290) as weights of log-probs.

The loss of a pair is -log sigmoid(z), z = beta ((c - c_ref) - (r - r_ref)), with the log-probs of
whole answers. Its gradient is that of -w_c c - w_r r with w_c = beta sigmoid(-z) = -w_r held fixed:
pairs need not share a forward pass, and any policy with log-probs can learn from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

Pairs = Float[Tensor, "P 2"]
"""The chosen answer, the rejected one; sums of log-probs, nats."""


@dataclass(frozen=True)
class Preference:
    """What a step of pairs learns with, and what it logs."""

    weight: Pairs
    """Of each answer's log-prob; the loss is minus their weighted sum, its mean over pairs."""
    loss: Float[Tensor, " P"]
    margin: Float[Tensor, " P"]
    """z: above 0 where the policy has the pair the right way round."""


def preference(now: Pairs, reference: Pairs, beta: float, smoothing: float = 0.0) -> Preference:
    """DPO's loss and weights; smoothing: share of pairs taken to be the wrong way round (cDPO)."""
    gain = now - reference
    margin = beta * (gain[:, 0] - gain[:, 1])
    loss = -(1 - smoothing) * logsigmoid(margin) - smoothing * logsigmoid(-margin)
    # -d loss / d margin
    slope = (1 - smoothing) * (-margin).sigmoid() - smoothing * margin.sigmoid()
    weight = (beta * slope)[:, None] * now.new_tensor([1.0, -1.0])
    return Preference(weight, loss, margin)
