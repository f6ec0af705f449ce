"""Decoded rows as rollouts and their trajectory, whoever drew them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlrl.families.encoded import EncodedPrompt
from vlrl.families.interfaces import Tokenizer
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.decode import Decoded
from vlrl.protocols import Drawn
from vlrl.types import Rollout, Sample


def as_rollouts(
    samples: Sequence[Sample],
    prompts: Sequence[EncodedPrompt],
    decoded: Decoded,
    tokenizer: Tokenizer,
    stop_tokens: Sequence[int],
    *,
    first: int = 0,
    version: int = 0,
) -> Drawn[TokenTrajectory]:
    """As many rollouts to each sample, group by group.

    first: number of the first group; version: of the weights, where the rows do not say it.
    """
    num_each = len(decoded.finish) // len(samples)
    rollouts = []
    for row, finish in enumerate(decoded.finish):
        mask = decoded.mask[row]
        tokens = decoded.tokens[row, mask].tolist()
        place, index = divmod(row, num_each)
        versions = [version] if decoded.version is None else decoded.version[row, mask].tolist()
        written = tokens[:-1] if tokens and tokens[-1] in stop_tokens else tokens
        rollouts.append(
            Rollout(
                sample=samples[place],
                group=first + place,
                index=index,
                output=tokenizer.decode(written, skip_special_tokens=False),
                finish=finish,
                num_actions=len(tokens),
                policy_version=min(versions),
                last_version=versions[-1],
            )
        )
    group = torch.arange(len(prompts)).repeat_interleave(num_each)
    kept = tuple(
        prompt.with_features(features)
        for prompt, features in zip(prompts, decoded.features, strict=True)
    )
    trajectory = TokenTrajectory(
        decoded.tokens, decoded.mask, decoded.logp, group, kept, version=decoded.version
    )
    return rollouts, trajectory
