"""The trajectory of a policy that writes words and voxel codes in stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from vlrl.policy.token_trajectory import TokenTrajectory

BLANK = torch.zeros(0, 0)


@dataclass(frozen=True)
class VoxelTrajectory(TokenTrajectory):
    """Answers with forced tokens between the actions; `mask` covers the actions alone."""

    present: Tensor = BLANK
    """True where there is a token, forced ones included, bool [B, T]."""
    kind: Tensor = BLANK
    """Which tokens were allowed: grammar.WORDS, CODES, FREE, FORCED, [B, T]."""

    @property
    def num_tokens(self) -> Tensor:
        """Tokens of every answer in the model's input, [B]."""
        return self.present.sum(1)

    def as_input(self) -> TokenTrajectory:
        """The same answers with every token in the mask: the input of a forward pass."""
        return TokenTrajectory(self.tokens, self.present, self.logp, self.group, self.prompts)

    def select(self, rows: Sequence[int]) -> VoxelTrajectory:
        """The trajectory of some rows."""
        index = torch.as_tensor(rows, dtype=torch.long)
        part = super().select(rows)
        assert isinstance(part, VoxelTrajectory)
        return replace(part, present=self.present[index], kind=self.kind[index])

    @classmethod
    def join(cls, parts: Sequence[TokenTrajectory]) -> VoxelTrajectory:
        """Several trajectories as one, groups renumbered in order."""
        whole = TokenTrajectory.join(parts)
        width = whole.tokens.shape[1]

        own = [part for part in parts if isinstance(part, VoxelTrajectory)]

        def joined(tensors: Sequence[Tensor]) -> Tensor:
            return torch.cat([pad(x, (0, width - x.shape[1])) for x in tensors])

        return VoxelTrajectory(
            whole.tokens,
            whole.mask,
            whole.logp,
            whole.group,
            whole.prompts,
            present=joined([part.present for part in own]),
            kind=joined([part.kind for part in own]),
            reference=whole.reference,
            stage=whole.stage,
        )
