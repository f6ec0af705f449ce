"""The trajectory of a policy that writes tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlrl.families.encoded import EncodedPrompt


@dataclass(frozen=True)
class TokenTrajectory:
    """Answers to several prompts, padded on the right; legend in vlrl/types.py."""

    tokens: Tensor
    """[B, T]; arbitrary where `mask` is False."""
    mask: Tensor
    """True where a token was sampled, the stop token included, [B, T]."""
    logp: Tensor
    """Log-prob of each token when it was sampled, [B, T], nats."""
    group: Tensor
    """Index into `prompts`, [B]."""
    prompts: tuple[EncodedPrompt, ...]
    """One per group: patches are ragged, so nothing here is ever sliced by row."""
    reference: Tensor | None = None
    """Log-prob under the reference policy, [B, T]; None without a KL penalty."""
    stage: Tensor | None = None
    """The stage that each token belongs to, [B, T]; None where answers have only one."""
    version: Tensor | None = None
    """`Policy.version` of the weights that drew each token, [B, T]; None: one for all."""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def num_tokens(self) -> Tensor:
        """Tokens of every answer in the model's input, [B]."""
        return self.mask.sum(1)

    def select(self, rows: Sequence[int]) -> TokenTrajectory:
        """The trajectory of some rows; the prompts stay, since rows refer to them by index."""
        index = torch.as_tensor(rows, dtype=torch.long)
        reference = None if self.reference is None else self.reference[index]
        stage = None if self.stage is None else self.stage[index]
        version = None if self.version is None else self.version[index]
        return replace(
            self,
            tokens=self.tokens[index],
            mask=self.mask[index],
            logp=self.logp[index],
            group=self.group[index],
            reference=reference,
            stage=stage,
            version=version,
        )

    def only_group(self, group: int) -> TokenTrajectory:
        """One group alone, renumbered 0."""
        part = self.select((self.group == group).nonzero()[:, 0].tolist())
        return replace(part, group=torch.zeros_like(part.group), prompts=(self.prompts[group],))

    def with_reference(self, reference: Tensor | None) -> TokenTrajectory:
        """The same with log-probs under the reference policy, [B, T]."""
        return replace(self, reference=reference)

    @classmethod
    def join(cls, parts: Sequence[TokenTrajectory]) -> TokenTrajectory:
        """Several trajectories as one, groups renumbered in order."""
        width = max(part.tokens.shape[1] for part in parts)

        def widen(tensor: Tensor) -> Tensor:
            return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))

        stages = [part.stage for part in parts if part.stage is not None]
        known = [part.reference for part in parts if part.reference is not None]
        versions = [part.version for part in parts if part.version is not None]
        has_all = len(known) == len(parts)
        starts = [0]
        for part in parts[:-1]:
            starts.append(starts[-1] + len(part.prompts))
        return TokenTrajectory(
            tokens=torch.cat([widen(part.tokens) for part in parts]),
            mask=torch.cat([widen(part.mask) for part in parts]),
            logp=torch.cat([widen(part.logp) for part in parts]),
            group=torch.cat(
                [part.group + start for part, start in zip(parts, starts, strict=True)]
            ),
            prompts=tuple(prompt for part in parts for prompt in part.prompts),
            reference=torch.cat([widen(each) for each in known]) if has_all else None,
            stage=torch.cat([widen(stage) for stage in stages]) if stages else None,
            version=torch.cat([widen(v) for v in versions]) if versions else None,
        )
