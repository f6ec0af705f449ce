"""Advantages: how much better an answer is than the others of its group.

A group never crosses a rank, so nothing here needs a collective; `batch_std` and `global_std` get
their one number over all ranks as an argument. Rewards that do not apply are nan: such a rollout
takes no part in the statistics and has advantage 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ADVANTAGES = (
    "group_zscore",
    "group_centre",
    "batch_std",
    "global_std",
    "leave_one_out",
    "precomputed",
)


def group_statistics(
    rewards: Float[Tensor, " B"], group: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Mean, unbiased standard deviation and number of applying rewards of each row's group.

    A group with fewer than two applying rewards has standard deviation 0.
    """
    num_groups = int(group.max()) + 1 if group.numel() else 0
    applies = ~rewards.isnan()
    values = rewards.nan_to_num(0.0).double()
    zeros = torch.zeros(num_groups, dtype=torch.float64)
    count = zeros.index_add(0, group, applies.double())
    mean = zeros.index_add(0, group, values) / count.clamp(min=1)
    centred = (values - mean[group]) * applies
    variance = zeros.index_add(0, group, centred**2) / (count - 1).clamp(min=1)
    return mean[group], variance.sqrt()[group], count[group]


def advantages(
    rewards: Float[Tensor, " B"],
    group: Int[Tensor, " B"],
    kind: str,
    *,
    eps: float = 1e-4,
    batch_std: float | None = None,
    population: bool = False,
) -> Float[Tensor, " B"]:
    """Advantages of rewards within their groups, float32.

    `group_zscore` (r - mean) / (std + eps): GRPO, arXiv 2402.03300, eq. 3; unbiased std, as in
        TRL and the GUI-G2 release, or with `population` that of the population, as in flow_grpo's
        code. With eps 1e-4 a saturated group is damped, not blown up.
    `group_centre` r - mean: Dr. GRPO, arXiv 2503.20783; GUI-G1, arXiv 2505.15810.
    `batch_std` (r - mean) / (std of the centred rewards of the whole batch + eps):
        REINFORCE++-baseline, arXiv 2501.03262; pass that one number in.
    `global_std` (r - mean) / (std of the rewards themselves of the whole batch + eps), population
        std: Flow-GRPO, arXiv 2505.05470, as released. It grows with what sets prompts apart.
    `leave_one_out` r - mean of the others: RLOO, arXiv 2402.14740; equals G / (G - 1) times
        `group_centre`.
    `precomputed` r itself: a `pair` node has made an advantage of it (Think-RM, arXiv 2505.16265).
    """
    mean, std, count = group_statistics(rewards, group)
    centred = torch.where(rewards.isnan() | (count < 2), 0.0, rewards.double() - mean)
    if kind == "group_zscore":
        if population:
            std = std * ((count - 1).clamp(min=0) / count.clamp(min=1)).sqrt()
        result = centred / (std + eps)
    elif kind == "group_centre":
        result = centred
    elif kind in ("batch_std", "global_std"):
        if batch_std is None:
            raise ValueError(f"{kind} needs the standard deviation of the whole batch")
        result = centred / (batch_std + eps)
    elif kind == "leave_one_out":
        result = centred * count / (count - 1).clamp(min=1)
    elif kind == "precomputed":
        result = rewards.double().nan_to_num(0.0)
    else:
        raise ValueError(f"unknown advantage {kind!r}; one of {ADVANTAGES}")
    return result.float()


def zero_variance(
    rewards: Float[Tensor, " B"], group: Int[Tensor, " B"], tolerance: float = 1e-6
) -> Bool[Tensor, " B"]:
    """True for the rows of groups whose applying rewards are all equal.

    Such a group teaches nothing (DAPO, arXiv 2503.14476, section 3.2).
    """
    _, std, _ = group_statistics(rewards, group)
    return std <= tolerance


def difficulty_weight(
    relative_area: Float[Tensor, " B"], *, reference: float, power: float, low: float, high: float
) -> Float[Tensor, " B"]:
    """A weight that grows as the target shrinks: clamp((reference / area)^power).

    GUI-G1 (arXiv 2505.15810) weighs a sample by the relative size of its box but publishes no
    formula, only a `rate` column. This formula is ours.
    """
    return ((reference / relative_area.clamp(min=1e-12)) ** power).clamp(low, high)
