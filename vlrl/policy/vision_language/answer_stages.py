"""Which stage of an answer each of its tokens belongs to, by where the stages begin in its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from vlrl.families.interfaces import Tokenizer
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.protocols import StageStarts


def stages_of(pieces: Sequence[str], starts: StageStarts) -> list[int]:
    """The stage of every token: the one that its first character is in.

    pieces: the text of each token.
    """
    stages, stage, place, left = [], 0, 0, list(starts)
    for piece in pieces:
        while left and left[0][0] <= place:
            stage = left.pop(0)[1]
        stages.append(stage)
        place += len(piece)
    return stages


def with_stages(
    trajectory: TokenTrajectory, tokenizer: Tokenizer, starts: Callable[[str], StageStarts]
) -> TokenTrajectory:
    """The trajectory with the stage of every token; `starts` finds them in an answer's text."""
    stage = torch.zeros_like(trajectory.tokens)
    for row, mask in enumerate(trajectory.mask):
        ids = [[token] for token in trajectory.tokens[row, mask].tolist()]
        pieces = tokenizer.batch_decode(ids, skip_special_tokens=False)
        found = stages_of(pieces, starts("".join(pieces)))
        stage[row, mask] = torch.tensor(found, dtype=stage.dtype, device=stage.device)
    return replace(trajectory, stage=stage)
