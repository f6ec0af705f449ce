"""Trajectory balance: answers drawn in proportion to exp(beta x reward), not only the best one.

loss = (log Z + log pi(y) - beta r(y) - log prior(y))^2, Z a normaliser of each prompt. Where it is
0 for all answers, pi(y) = prior(y) exp(beta r(y)) / Z. Sources: trajectory balance (Malkin et al.,
arXiv 2201.13259); for language models FlowRL (arXiv 2509.15207), which scales the reward in its
group and learns Z with a network.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlrl.algo.objectives import ClipRange, Objective

Logps = Float[Tensor, "B T"]
Mask = Bool[Tensor, "B T"]
Rows = Float[Tensor, " B"]


def of_answer(logp: Logps, mask: Mask, per_token: bool) -> Rows:
    """Log-prob of each answer: the sum over its tokens, or their mean."""
    total = (logp * mask).sum(1)
    return total / mask.sum(1).clamp(min=1) if per_token else total


def normaliser_estimate(rewards: Rows, logp: Rows, prior: Rows, beta: float) -> Rows:
    """What log Z would have to be for each answer to be in balance."""
    return beta * rewards + prior - logp


def trajectory_balance(
    logp: Logps, old_logp: Logps, target: Rows, mask: Mask, c: ClipRange, *, per_token: bool
) -> Objective:
    """The squared gap of each answer, in all of its actions: average them by `sequence`.

    target: beta r + log prior - log Z. Answers of an earlier policy are weighed by their clipped
    ratio, the geometric mean over tokens, without gradient.
    """
    gap = of_answer(logp, mask, per_token) - target
    log_ratio = of_answer(logp - old_logp, mask, per_token=True)
    ratio = log_ratio.exp().detach()
    weight = ratio.clamp(1 - c.low, 1 + c.high)
    loss = (weight * gap.square())[:, None].expand_as(logp)
    clipped = (weight != ratio)[:, None] & mask
    return Objective(loss, ratio[:, None].expand_as(logp), clipped)


def moved(log_z: float, estimates: Rows, lr: float) -> float:
    """log Z after a step along its own gradient, towards the mean of the estimates."""
    mean = float(torch.nan_to_num(estimates.double()).sum() / max(len(estimates), 1))
    return log_z + lr * (mean - log_z)
