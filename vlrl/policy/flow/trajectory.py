"""The trajectory of a policy that denoises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncodedCaption:
    """A prompt after the text encoders."""

    context: Tensor
    """[L, D]"""
    pooled: Tensor
    """[D']"""


@dataclass(frozen=True)
class FlowTrajectory:
    """The T trained steps of several images; legend in vlrl/types.py."""

    before: Tensor
    """Latents before each trained step, [B, T, C, H, W], in the storage dtype."""
    after: Tensor
    """Latents after it, [B, T, C, H, W], in the storage dtype."""
    logp: Tensor
    """Scaled log-density of each step when it was sampled, [B, T]."""
    mask: Tensor
    """True everywhere, [B, T]."""
    group: Tensor
    """Index into `prompts`, [B]."""
    steps: tuple[int, ...]
    """Index of each trained step in the schedule, T of them."""
    prompts: tuple[EncodedCaption, ...]
    """One per group."""
    levels: Tensor | None = None
    """Noise level of every entry, [B, T], where it differs from that of `steps`: noised final
    images, for objectives without log-probs. `before` is then noised, `after` clean."""
    mean: Tensor | None = None
    """Mean of each step when it was sampled, [B, T, C, H, W]; kept for `ratio: guard` only."""
    reference: Tensor | None = None
    """Velocity of the reference policy, [B, T, C, H, W]; None without a KL penalty."""

    @property
    def stage(self) -> Tensor | None:
        """None: an image has one stage."""
        return None

    def __len__(self) -> int:
        return self.before.shape[0]

    def select(self, rows: Sequence[int]) -> FlowTrajectory:
        """The trajectory of some rows; the prompts stay, since rows refer to them by index."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return replace(
            self,
            before=self.before[index],
            after=self.after[index],
            logp=self.logp[index],
            mask=self.mask[index],
            group=self.group[index],
            levels=None if self.levels is None else self.levels[index],
            mean=None if self.mean is None else self.mean[index],
            reference=None if self.reference is None else self.reference[index],
        )

    def only_group(self, group: int) -> FlowTrajectory:
        """One group alone, renumbered 0."""
        part = self.select((self.group == group).nonzero()[:, 0].tolist())
        return replace(part, group=torch.zeros_like(part.group), prompts=(self.prompts[group],))

    def with_reference(self, reference: Tensor | None) -> FlowTrajectory:
        """The same with velocities of the reference policy, [B, T, C, H, W]."""
        return replace(self, reference=reference)

    @classmethod
    def join(cls, parts: Sequence[FlowTrajectory]) -> FlowTrajectory:
        """Several trajectories of the same steps as one, groups renumbered in order."""
        steps = {part.steps for part in parts}
        if len(steps) > 1:
            raise ValueError(f"trajectories of different steps cannot be joined: {steps}")
        starts = [0]
        for part in parts[:-1]:
            starts.append(starts[-1] + len(part.prompts))
        levels = [part.levels for part in parts if part.levels is not None]
        means = [part.mean for part in parts if part.mean is not None]
        return FlowTrajectory(
            before=torch.cat([part.before for part in parts]),
            after=torch.cat([part.after for part in parts]),
            logp=torch.cat([part.logp for part in parts]),
            mask=torch.cat([part.mask for part in parts]),
            group=torch.cat([p.group + start for p, start in zip(parts, starts, strict=True)]),
            steps=parts[0].steps,
            prompts=tuple(prompt for part in parts for prompt in part.prompts),
            levels=torch.cat(levels) if levels else None,
            mean=torch.cat(means) if means else None,
        )
