"""Sampling G answers to each prompt, all together, one token per row and step.

    shared   prefill [P, L] once -> its keys and values stay [P, ...] -> answers' own cache [P x G]
    plain    prefill [P x G, L]  -> one cache [P x G]

When shared, the prompt of a group goes through the model once, images included, and its keys are
neither repeated nor read more than once per step. Rows that have ended leave the batch once they
are a quarter of it. Every row draws numbers from its own seed, so an answer does not depend on the
rest of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from vlrl.policy.distribution import draw
from vlrl.policy.token_trajectory import EncodedPrompt
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.group_attention import SharedPrompts
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.vision_features import features_of, split
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
    """Features of each prompt's images, if the module keeps them; else None."""


class Rules(Protocol):
    """Which tokens may come next in each row, if that changes from step to step."""

    def next(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """For some rows, [R]: the next token's kind, and the token itself if forced, else -1."""

    def take(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Accept each row's token, [R] -> whether each row has ended, bool [R]."""


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
    rules: Rules | None = None,
) -> Decoded:
    """Sample `num_each` answers per prompt; `stopped` may end a row by its tokens (stop strings).

    seeds: one per row, [P x num_each]. `rules`, if any, decide alone what may come and where a
    row ends; a forced token has log-prob 0.
    """
    device = module.forbidden.device
    B, T = len(prompts) * num_each, max_new_tokens
    uniforms = uniform_rows(seeds, T).to(device)
    state = _prefill(module, prompts, num_each, pad_id, share_prompt)
    tokens = torch.full((B, T), pad_id, device=device)
    taken = torch.zeros(B, T, dtype=torch.bool, device=device)
    logps = torch.zeros(B, T, dtype=torch.float32, device=device)
    running = torch.ones(B, dtype=torch.bool, device=device)
    for t in range(T):
        rows = state.rows
        kinds, forced = (None, None) if rules is None else rules.next(rows)
        logp = module.log_probs(state.hidden, kinds)
        token = logp.argmax(-1) if greedy else draw(logp, uniforms[rows, t])
        chosen = logp.gather(-1, token[:, None])[:, 0]
        if forced is not None:
            token = torch.where(forced < 0, token, forced)
            chosen = torch.where(forced < 0, chosen, 0.0)
        live = running[rows]
        tokens[rows, t] = torch.where(live, token, pad_id)
        taken[rows, t] = live
        logps[rows, t] = torch.where(live, chosen, 0.0)
        if rules is None:
            running[rows] = live & ~torch.isin(token, stop_tokens)
        else:
            running[rows] = live & ~rules.take(rows, token)
        if stopped is not None:
            for row in running.nonzero()[:, 0].tolist():
                running[row] = not stopped(tokens[row, : t + 1].tolist())
        if t + 1 == T or not running.any():
            break
        state.drop_ended(running)
        state.advance(module, tokens[state.rows, t], t)
    T = int(taken.any(0).sum())
    finish = [Finish.LENGTH if alive else Finish.STOP for alive in running.tolist()]
    return Decoded(
        tokens[:, :T].cpu(), taken[:, :T].cpu(), logps[:, :T].cpu(), finish, state.features
    )


@dataclass
class _State:
    """The rows that are decoded together, [R]; with a plan R is groups x rows of a group."""

    rows: Tensor
    """Which answer each row is, an index into [B]."""
    hidden: Tensor
    """Last hidden state of each row, [R, D]."""
    start: Tensor
    """M-RoPE position of each row's first answer token, [R]."""
    cache: DynamicCache
    mask: Tensor
    """Real tokens of prompt and answer, [R, L]; unused with a plan."""
    plan: SharedPrompts | None
    features: list[Tensor | None]

    def advance(self, module: TokenLogProbs, token: Tensor, t: int) -> None:
        """One forward pass with each row's newest token."""
        if self.plan is None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], 1)
        self.hidden = module.hidden(
            token[:, None],
            (self.start + t).expand(3, -1)[..., None],
            self.mask if self.plan is None else None,
            None,
            None,
            cache=self.cache,
            groups=self.plan,
        )[:, -1]

    def drop_ended(self, running: Tensor) -> None:
        """Remove ended rows once they are a quarter: copying the cache costs time too."""
        alive = running[self.rows]
        if self.plan is None:
            keep = alive.nonzero()[:, 0]
        else:
            table = alive.view(-1, self.plan.num_each)
            groups = table.any(1).nonzero()[:, 0]
            width = int(table.sum(1).max())
            first = (~table).int().argsort(dim=1, stable=True)[groups, :width]
            keep = (groups[:, None] * self.plan.num_each + first).flatten()
        if len(keep) > 0.75 * len(self.rows):
            return
        if self.plan is None:
            self.mask = self.mask[keep]
        else:
            self.plan = self.plan.select(groups, width)
        self.rows, self.start = self.rows[keep], self.start[keep]
        if self.cache.get_seq_length():
            self.cache.batch_select_indices(keep)


def uniform_rows(seeds: Sequence[int], num_tokens: int) -> Tensor:
    """The uniform numbers in [0, 1) that decide each token of each row, float32 [B, T], on CPU.

    Each row has its own, so that it does not depend on its batch or device. The type is explicit: a
    thread that loads a model in half precision changes the default of the whole process.
    """
    rows = [
        torch.rand(num_tokens, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    return torch.stack(rows)


def _prefill(
    module: TokenLogProbs,
    prompts: list[EncodedPrompt],
    num_each: int,
    pad_id: int,
    share_prompt: bool,
) -> _State:
    """Encode the prompts, once per group or once per row."""
    device = module.forbidden.device
    encoded = prompts if share_prompt else [p for p in prompts for _ in range(num_each)]
    batch = layout.prefill(encoded, pad_id)
    assert batch.attention_mask is not None
    mask = batch.attention_mask.to(device)
    features, kept = _features(module, batch, encoded, device)
    cache = DynamicCache(config=module.core.config.get_text_config())
    hidden = module.hidden(
        batch.input_ids.to(device),
        batch.positions.to(device),
        mask,
        None,
        None,
        cache=cache,
        features=features,
    )[:, -1]
    start = torch.tensor([p.next_position for p in prompts], device=device)
    rows = torch.arange(len(prompts) * num_each, device=device)
    start = start.repeat_interleave(num_each)
    if not share_prompt:
        return _State(rows, hidden, start, cache, mask, None, kept[::num_each])
    plan = _keep_prompts(cache, mask, num_each)
    own = DynamicCache(config=module.core.config.get_text_config())
    hidden = hidden.repeat_interleave(num_each, 0)
    return _State(rows, hidden, start, own, mask, plan, kept)


def _features(
    module: TokenLogProbs, batch: layout.Layout, prompts: list[EncodedPrompt], device: torch.device
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Features of the batch's images, and those of each prompt if the module keeps them."""
    nothing: list[Tensor | None] = [None] * len(prompts)
    if batch.pixel_values is None or batch.grid_thw is None:
        return None, nothing
    features = features_of(module.core, batch.pixel_values.to(device), batch.grid_thw)
    if not module.keeps_features:
        return features, nothing
    return features, split(module.core, features, [prompt.grid_thw for prompt in prompts])


def _keep_prompts(cache: DynamicCache, mask: Tensor, num_each: int) -> SharedPrompts:
    """The prompts' keys and values in the form that a decoding step takes."""
    lowest = torch.finfo(torch.float32).min
    padding = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
    padding = padding.masked_fill(mask == 0, lowest)
    stored: list[Any] = list(cache.layers)
    layers = [(layer.keys, layer.values) for layer in stored]
    return SharedPrompts(layers, padding[:, None, None], num_each)
