"""Credit for answers in stages: a reward and an advantage per stage, spread over its actions.

Hi-GRPO (AR3D-R1, arXiv 2512.10949): a plan and a coarse object, then details and the refined one.
What comes later also speaks for what came before it, with weight lambda (`carry`, 1 there). Any
task whose policy names the stage of every action can use it. With one stage all of this is plain
GRPO, to the bit.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def carry_back(rewards: Float[Tensor, "B S"], carry: float) -> Float[Tensor, "B S"]:
    """Rewards of stages, each with carry times what follows it: R_k + carry * (R_k+1 + ...).

    nan = does not apply: it adds nothing to the stages before it.
    """
    columns = list(rewards.unbind(1))
    for s in range(len(columns) - 2, -1, -1):
        columns[s] = columns[s] + carry * columns[s + 1].nan_to_num(0.0)
    return torch.stack(columns, 1)


def to_actions(
    advantage: Float[Tensor, "B S"], stage: Int[Tensor, "B T"] | None
) -> Float[Tensor, "B T"] | Float[Tensor, " B"]:
    """Advantages of stages for every action; with one stage as it was, one per answer.

    stage: the stage of every action; ValueError where it is missing and S is above 1.
    """
    if advantage.shape[1] == 1:
        return advantage[:, 0]
    if stage is None:
        raise ValueError("rewards of several stages need to know the stage of every action")
    return advantage.gather(1, stage)
