"""Correction of updates on answers that another distribution drew than the policy's own.

An engine rounds otherwise than the trainer, and answers that were drawn while an update ran are one
policy version old. With s the sampler's log-prob of a token and p the trainer's before the step,
the weight of a token is exp(p - s), that of an answer the product over its tokens; it multiplies
the loss, and the ratio that is clipped stays that of the update itself, 1 on the first step.

Truncated and masked weights: TRL's `vllm_importance_sampling_mode` and verl's rollout correction;
here a mask takes out ratios on both sides, [1 / limit, limit]. Off-policy sequence mask and
unbiased KL: DeepSeek-V3.2 (arXiv 2512.02556).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Level = Literal["token", "sequence"]
Mode = Literal["truncate", "mask"]
LARGEST = 20.0
"""Log-ratios beyond it are the same to every limit, and would overflow."""


def weights(
    trainer_logp: Float[Tensor, "B T"],
    sampler_logp: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    level: Level,
    mode: Mode,
    limit: float,
) -> Float[Tensor, "B T"]:
    """Importance weights of the tokens, without gradient; 0 outside the mask.

    truncate: min(ratio, limit). mask: the ratio where it lies in [1 / limit, limit], else 0.
    """
    ratio = ratios(trainer_logp, sampler_logp, mask, level)
    if mode == "truncate":
        kept = ratio.clamp(max=limit)
    else:
        kept = ratio * ((ratio >= 1 / limit) & (ratio <= limit))
    return kept * mask


def ratios(
    trainer_logp: Float[Tensor, "B T"],
    sampler_logp: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    level: Level,
) -> Float[Tensor, "B T"]:
    """exp(trainer - sampler) of each token, or of its whole answer; 1 outside the mask."""
    gap = ((trainer_logp - sampler_logp) * mask).detach()
    if level == "sequence":
        gap = gap.sum(1, keepdim=True).expand_as(gap)
    return torch.where(mask, gap.clamp(-LARGEST, LARGEST).exp(), 1.0)


def on_policy_rows(
    now_logp: Float[Tensor, "B T"],
    sampler_logp: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    advantage: Float[Tensor, "B T"],
    limit: float,
) -> Bool[Tensor, B]:
    """False for answers that are worse than their group and drifted: mean(s - now) above `limit`.

    Pushing down what the policy would hardly write any more teaches nothing and is unstable.
    """
    count = mask.sum(1).clamp(min=1)
    drift = ((sampler_logp - now_logp.detach()) * mask).sum(1) / count
    worse = (advantage * mask).sum(1) < 0
    return ~(worse & (drift > limit))


def unbiased_kl(
    kl: Float[Tensor, "*actions"],
    now_logp: Float[Tensor, "*actions"],
    sampler_logp: Float[Tensor, "*actions"],
) -> Float[Tensor, "*actions"]:
    """The k3 estimate weighted by now / sampler, so that its gradient is that of the true KL."""
    return kl * (now_logp - sampler_logp).clamp(-LARGEST, LARGEST).exp()


@dataclass(frozen=True)
class Mismatch:
    """How far sampler and trainer are apart, as sums over the tokens of some answers."""

    weight: Tensor
    squared: Tensor
    largest_ratio: Tensor
    """Before it is truncated or masked."""
    masked: Tensor
    kl: Tensor

    @classmethod
    def of(
        cls,
        weight: Float[Tensor, "B T"],
        trainer_logp: Float[Tensor, "B T"],
        sampler_logp: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        level: Level,
    ) -> Mismatch:
        """Sums of weights, of their squares, of those that are 0, and of KL(sampler || trainer)."""
        gap = ((trainer_logp - sampler_logp).detach() * mask).clamp(-LARGEST, LARGEST)
        return cls(
            (weight * mask).sum(),
            (weight.square() * mask).sum(),
            (ratios(trainer_logp, sampler_logp, mask, level) * mask).max(),
            ((weight == 0) & mask).sum().float(),
            ((gap.exp() - 1 - gap) * mask).sum(),
        )
