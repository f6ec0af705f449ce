"""Sampling G answers to each prompt, all together, one token a row and step.

    shared   prefill [P, L] once -> its keys and values stay [P, ...] -> answers' own cache [P x G]
    plain    prefill [P x G, L]  -> one cache [P x G]

Shared, the prompt of a group goes through the model once, screenshot included, and its keys are
neither repeated nor read more than once a step. Every row draws with numbers from its own seed,
so an answer does not depend on what is sampled beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from vlrl.policy import layout
from vlrl.policy.distribution import draw, log_probs
from vlrl.policy.group_attention import SharedPrompts
from vlrl.policy.module import TokenLogProbs
from vlrl.policy.prompts import EncodedPrompt
from vlrl.policy.vision_features import features_of, split
from vlrl.types import Finish


@dataclass(frozen=True)
class Decoded:
    """Answers in rows, group by group."""

    tokens: Tensor
    """[B, T]"""
    mask: Tensor
    """True where a token was sampled, the stop token included, [B, T]."""
    logp: Tensor
    """[B, T], nats."""
    finish: list[Finish]
    features: list[Tensor | None]
    """Of each prompt's pictures, where the module keeps them; else None."""


@torch.no_grad()
def decode(
    module: TokenLogProbs,
    prompts: list[EncodedPrompt],
    num_each: int,
    seeds: Sequence[int],
    *,
    share_prompt: bool,
    max_new_tokens: int,
    stop_tokens: Tensor,
    pad_id: int,
    greedy: bool = False,
    stopped: Callable[[list[int]], bool] | None = None,
) -> Decoded:
    """Sample `num_each` answers a prompt; `stopped` may end a row by its tokens (stop strings).

    seeds: one a row, [P x num_each].
    """
    device = module.forbidden.device
    B, T = len(prompts) * num_each, max_new_tokens
    uniforms = torch.stack(
        [torch.rand(T, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    ).to(device)
    prefilled = prompts if share_prompt else [p for p in prompts for _ in range(num_each)]
    batch = layout.prefill(prefilled, pad_id)
    cache = DynamicCache(config=module.core.config.get_text_config())
    mask = batch.attention_mask
    assert mask is not None
    mask = mask.to(device)
    features, kept = _features(module, batch, prefilled, device)
    hidden = module.hidden(
        batch.input_ids.to(device),
        batch.positions.to(device),
        mask,
        None,
        None,
        cache=cache,
        features=features,
    )[:, -1]
    plan: SharedPrompts | None = None
    if share_prompt:
        plan = _keep_prompts(cache, mask, num_each)
        cache = DynamicCache(config=module.core.config.get_text_config())
        hidden = hidden.repeat_interleave(num_each, 0)
    start = torch.tensor([p.next_position for p in prompts], device=device)
    start = start.repeat_interleave(num_each)

    tokens = torch.full((B, T), pad_id, device=device)
    taken = torch.zeros(B, T, dtype=torch.bool, device=device)
    logps = torch.zeros(B, T, device=device)
    running = torch.ones(B, dtype=torch.bool, device=device)
    for t in range(T):
        logp = log_probs(module.logits(hidden), module.sampling, module.forbidden)
        token = logp.argmax(-1) if greedy else draw(logp, uniforms[:, t])
        tokens[:, t] = torch.where(running, token, pad_id)
        taken[:, t] = running
        logps[:, t] = torch.where(running, logp.gather(-1, token[:, None])[:, 0], 0.0)
        running = running & ~torch.isin(token, stop_tokens)
        if stopped is not None:
            for row in running.nonzero()[:, 0].tolist():
                running[row] = not stopped(tokens[row, : t + 1].tolist())
        if t + 1 == T or not running.any():
            break
        if plan is None:
            mask = torch.cat([mask, mask.new_ones(B, 1)], 1)
        hidden = module.hidden(
            tokens[:, t : t + 1],
            (start + t).expand(3, -1)[..., None],
            mask if plan is None else None,
            None,
            None,
            cache=cache,
            groups=plan,
        )[:, -1]
    T = int(taken.any(0).sum())
    finish = [Finish.LENGTH if alive else Finish.STOP for alive in running.tolist()]
    each = 1 if share_prompt else num_each
    return Decoded(
        tokens[:, :T].cpu(), taken[:, :T].cpu(), logps[:, :T].cpu(), finish, kept[::each]
    )


def _features(
    module: TokenLogProbs, batch: layout.Layout, prompts: list[EncodedPrompt], device: torch.device
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Features of the batch's pictures, and each prompt's own where the module keeps them."""
    nothing: list[Tensor | None] = [None] * len(prompts)
    if batch.pixel_values is None or batch.grid_thw is None:
        return None, nothing
    features = features_of(module.core, batch.pixel_values.to(device), batch.grid_thw)
    if not module.keeps_features:
        return features, nothing
    return features, split(module.core, features, [prompt.grid_thw for prompt in prompts])


def _keep_prompts(cache: DynamicCache, mask: Tensor, num_each: int) -> SharedPrompts:
    """The prompts' keys and values as a decoding step takes them."""
    lowest = torch.finfo(torch.float32).min
    padding = torch.zeros(mask.shape, device=mask.device).masked_fill(mask == 0, lowest)
    stored: list[Any] = list(cache.layers)
    layers = [(layer.keys, layer.values) for layer in stored]
    return SharedPrompts(layers, padding[:, None, None], num_each)
