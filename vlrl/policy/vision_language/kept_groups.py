"""A group of answers as a checkpoint keeps it: tokens and log-probs, without the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vlrl.families.encoded import EncodedPrompt
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.protocols import Drawn
from vlrl.types import Finish, Rollout, Sample

_PLAIN = ("index", "output", "num_actions", "policy_version", "last_version", "begun")


def packed_group(rollouts: Sequence[Rollout], trajectory: TokenTrajectory) -> dict[str, Any]:
    """Tensors and plain values of one group."""
    rows = [
        {**{name: vars(r)[name] for name in _PLAIN}, "finish": r.finish.value} for r in rollouts
    ]
    tensors: dict[str, Tensor | None] = {
        "tokens": trajectory.tokens,
        "mask": trajectory.mask,
        "logp": trajectory.logp,
        "version": trajectory.version,
    }
    return {"rollouts": rows, **tensors}


def unpacked_group(
    sample: Sample, packed: Mapping[str, Any], prompt: EncodedPrompt
) -> Drawn[TokenTrajectory]:
    """The group again, with its prompt."""
    rollouts = [
        Rollout(sample=sample, group=0, finish=Finish(row["finish"]), **_values(row))
        for row in packed["rollouts"]
    ]
    group = torch.zeros(len(rollouts), dtype=torch.long)
    trajectory = TokenTrajectory(
        packed["tokens"],
        packed["mask"],
        packed["logp"],
        group,
        (prompt,),
        version=packed["version"],
    )
    return rollouts, trajectory


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _PLAIN}
