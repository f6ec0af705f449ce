"""Policy objectives: from log-probs and advantages to a loss per action.

Every objective is a pure function `(logp, old_logp, advantage, mask, clip) -> Objective`. The
result is not yet averaged: `aggregate.py` does that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Logps = Float[Tensor, "B T"]
"""nats"""
Mask = Bool[Tensor, "B T"]
Advantage = Float[Tensor, "B T"] | Float[Tensor, " B"]
"""One per action (vlrl.algo.stages), or one per answer."""


@dataclass(frozen=True)
class ClipRange:
    """The trust region of the ratio, [1 - low, 1 + high]."""

    low: float = 0.2
    high: float = 0.2


@dataclass(frozen=True)
class Objective:
    """A loss to be minimised, with what the logs want to know."""

    loss: Float[Tensor, "B T"]
    """Arbitrary where nothing was done."""
    ratio: Float[Tensor, "B T"]
    """Importance ratio, without gradient."""
    clipped: Bool[Tensor, "B T"]
    """True where the clip took the gradient away."""


def _per_action(advantage: Advantage) -> Float[Tensor, "B T_or_1"]:
    return advantage if advantage.dim() == 2 else advantage[:, None]


def clip(logp: Logps, old_logp: Logps, advantage: Advantage, mask: Mask, c: ClipRange) -> Objective:
    """PPO's clipped surrogate per action: -min(r A, clip(r) A), arXiv 1707.06347, eq. 7.

    `high > low` is DAPO's clip-higher (arXiv 2503.14476, section 3.1).
    """
    ratio = (logp - old_logp).exp()
    A = _per_action(advantage)
    bounded = ratio.clamp(1 - c.low, 1 + c.high)
    loss = -torch.min(ratio * A, bounded * A)
    clipped = (bounded * A < ratio * A) & mask
    return Objective(loss, ratio.detach(), clipped)


def gspo(logp: Logps, old_logp: Logps, advantage: Advantage, mask: Mask, c: ClipRange) -> Objective:
    """The clipped surrogate with one ratio per sequence, s = exp(mean_t log r_t).

    GSPO, arXiv 2507.18071, eq. 5 and 7. The ratio is a geometric mean, so its useful clip range
    is far narrower than PPO's (the paper: 3e-4 and 4e-4).
    """
    length = mask.sum(1).clamp(min=1)
    log_ratio = ((logp - old_logp) * mask).sum(1) / length
    ratio = log_ratio.exp()[:, None].expand_as(logp)
    A = _per_action(advantage)
    bounded = ratio.clamp(1 - c.low, 1 + c.high)
    loss = -torch.min(ratio * A, bounded * A)
    clipped = (bounded * A < ratio * A) & mask
    return Objective(loss, ratio.detach(), clipped)


def cispo(
    logp: Logps, old_logp: Logps, advantage: Advantage, mask: Mask, c: ClipRange
) -> Objective:
    """REINFORCE with a clipped, gradient-free ratio: -sg(clip(r)) A logp.

    CISPO, arXiv 2506.13585, eq. 4: no action loses its gradient. The paper bounds only from
    above; set `clip_low: 1.0` for that.
    """
    ratio = (logp - old_logp).detach().exp()
    bounded = ratio.clamp(1 - c.low, 1 + c.high)
    loss = -bounded * _per_action(advantage) * logp
    return Objective(loss, ratio, (bounded != ratio) & mask)


def likelihood(
    logp: Logps, old_logp: Logps, advantage: Advantage, mask: Mask, c: ClipRange
) -> Objective:
    """-A logp: REINFORCE; with A = 1 the negative log-likelihood. Not clipped."""
    ratio = (logp - old_logp).exp().detach()
    return Objective(-_per_action(advantage) * logp, ratio, torch.zeros_like(mask))


ObjectiveFunction = Callable[[Tensor, Tensor, Tensor, Tensor, ClipRange], Objective]

OBJECTIVES: dict[str, ObjectiveFunction] = {
    "clip": clip,
    "gspo": gspo,
    "cispo": cispo,
    "likelihood": likelihood,
}

REGRESSIONS = ("nft",)
"""Objectives that need no log-probs; a policy serves them by `regression`, or refuses them."""
