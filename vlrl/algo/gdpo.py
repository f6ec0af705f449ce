"""GDPO: each reward of a sum is normalised in its group by itself, and then they are added.

Where the sum is normalised instead, the reward that varies most decides, and groups in which the
parts differ but their sums do not teach nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlrl.algo.advantages import group_statistics


def added_zscores(
    rewards: Float[Tensor, "B K"],
    weights: Float[Tensor, " K"],
    group: Int[Tensor, " B"],
    eps: float,
) -> Float[Tensor, " B"]:
    """sum_k w_k (r_k - mean_k) / (std_k + eps), float64; nan where no reward applies.

    arXiv 2601.05242, before its normalisation over the batch; unbiased deviations, as in TRL
    (`multi_objective_aggregation: normalize_then_sum`). A reward that does not apply adds nothing.
    """
    added = torch.zeros(len(rewards), dtype=torch.float64)
    for column, weight in zip(rewards.unbind(1), weights.tolist(), strict=True):
        mean, std, count = group_statistics(column, group)
        alone = column.isnan() | (count < 2)
        added += torch.where(alone, 0.0, weight * (column.double() - mean) / (std + eps))
    return added.masked_fill(rewards.isnan().all(1), float("nan"))


def over_batch(
    added: Float[Tensor, " B"], mean: float, std: float, eps: float
) -> Float[Tensor, " B"]:
    """(A - mean) / (std + eps), mean and std those of all answers of the step; float32.

    It keeps the size of advantages the same whatever the number of rewards.
    """
    return ((added - mean) / (std + eps)).nan_to_num(0.0).float()
