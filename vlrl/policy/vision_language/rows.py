"""The rows that are decoded together: their prompts' and answers' keys, and one step for all.

shared   prefill of the prompts, end to end in one row [1, sum of L], without padding
         -> their keys and values [P, ...], read by whole groups; answers' own cache [P x G]
plain    prefill [P, L], padded -> transformers' own cache, repeated [P x G]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from vlrl.families.encoded import EncodedPrompt, Features
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.answer_cache import AnswerCache
from vlrl.policy.vision_language.group_attention import SharedPrompts
from vlrl.policy.vision_language.module import TokenLogProbs
from vlrl.policy.vision_language.vision_features import features_within, split

PROMPT_MULTIPLE = 8
"""Prompts' keys are padded to a multiple of it, for fused kernels with a mask."""


class Rows(ABC):
    """Rows [R] that go on; with a plan R is groups x rows of a group."""

    def __init__(
        self, rows: Tensor, first: Tensor, start: Tensor, features: list[Features | None]
    ) -> None:
        self.rows = rows
        """Which answer each row is, an index into [B]."""
        self.places = torch.arange(len(rows))
        """The same on the CPU."""
        self.first = first
        """Hidden states that predict the first tokens, [R, D]."""
        self.start = start
        """Position of each row's first answer token on each axis, [K, R]."""
        self.features = features
        """Features of each prompt's images, if the module keeps them; else None."""
        self.max_new_tokens: int | None = None
        """Longest answers, where that is known."""

    @abstractmethod
    def reserve(self, num_tokens: int, *, fixed: bool) -> bool:
        """Make room for answers of so many tokens; returns whether an address changed.

        fixed: until the next call no shape may change from step to step.
        """

    @abstractmethod
    def advance(self, module: TokenLogProbs, token: Tensor) -> Tensor:
        """One forward pass with each row's newest token, [R] -> hidden states, [R, D]."""

    @abstractmethod
    def drop(self, running: Tensor, at_most: float) -> bool:
        """Remove ended rows once the others are at most this share; returns whether it did.

        Copying the cache costs time too. running: bool [B], on CPU.
        """


class PlainRows(Rows):
    """Every row holds its prompt; transformers' own cache, which is copied at every step."""

    def __init__(
        self,
        rows: Tensor,
        first: Tensor,
        start: Tensor,
        features: list[Features | None],
        cache: DynamicCache,
        mask: Tensor,
    ) -> None:
        super().__init__(rows, first, start, features)
        self.cache, self.mask = cache, mask
        self.num_written = 0

    def reserve(self, num_tokens: int, *, fixed: bool) -> bool:
        """Nothing to do: the cache grows by itself, and cannot be fixed."""
        return False

    def advance(self, module: TokenLogProbs, token: Tensor) -> Tensor:
        """One forward pass with each row's newest token, [R] -> hidden states, [R, D]."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], 1)
        positions = (self.start + self.num_written)[..., None]
        self.num_written += 1
        hidden = module.hidden(token[:, None], positions, self.mask, cache=self.cache)
        return hidden[:, -1]

    def drop(self, running: Tensor, at_most: float) -> bool:
        """Remove ended rows once the others are at most this share; returns whether it did."""
        keep = running[self.places].nonzero()[:, 0]
        if len(keep) > at_most * len(self.rows):
            return False
        self.places = self.places[keep]
        keep = keep.to(self.rows.device)
        self.mask, self.rows, self.start = self.mask[keep], self.rows[keep], self.start[:, keep]
        self.cache.reorder_cache(keep)  # type: ignore[arg-type]
        return True


class SharedRows(Rows):
    """The rows of a group read their prompt's keys together; answers have a cache of their own."""

    def __init__(
        self,
        rows: Tensor,
        first: Tensor,
        start: Tensor,
        features: list[Features | None],
        cache: AnswerCache,
        plan: SharedPrompts,
    ) -> None:
        super().__init__(rows, first, start, features)
        self.cache, self.plan = cache, plan
        self.is_fixed = False

    def reserve(self, num_tokens: int, *, fixed: bool) -> bool:
        """Make room for answers of so many tokens; returns whether an address changed."""
        moved = self.cache.reserve(num_tokens, self.max_new_tokens)
        columns = self.cache.columns
        columns.num_read = columns.num_columns if fixed else num_tokens
        self.is_fixed = fixed
        return moved

    def advance(self, module: TokenLogProbs, token: Tensor) -> Tensor:
        """One forward pass with each row's newest token, [R] -> hidden states, [R, D]."""
        columns = self.cache.columns
        plan = self.plan
        if self.is_fixed:
            plan = plan.reading(columns.next, columns.num_columns, self.first.dtype)
        positions = (self.start + columns.next)[..., None]
        hidden = module.hidden(token[:, None], positions, None, cache=self.cache, groups=plan)
        columns.next.add_(1)
        return hidden[:, -1]

    def drop(self, running: Tensor, at_most: float) -> bool:
        """Remove ended rows once the others are at most this share; returns whether it did.

        All groups keep as many rows as the fullest one.
        """
        table = running[self.places].view(-1, self.plan.num_each)
        groups = table.any(1).nonzero()[:, 0]
        width = int(table.sum(1).max())
        if len(groups) * width > at_most * len(self.rows):
            return False
        first = (~table).int().argsort(dim=1, stable=True)[groups, :width]
        keep = (groups[:, None] * self.plan.num_each + first).flatten()
        self.places = self.places[keep]
        keep = keep.to(self.rows.device)
        self.plan = self.plan.select(groups.to(self.rows.device), width)
        self.rows, self.start = self.rows[keep], self.start[:, keep]
        self.cache.keep(keep)
        return True


@torch.no_grad()
def prefill(
    module: TokenLogProbs,
    prompts: Sequence[EncodedPrompt],
    num_each: int,
    pad_id: int,
    *,
    share_prompt: bool,
) -> Rows:
    """Rows that are about to write their first token: `num_each` for each prompt."""
    device = module.forbidden.device
    rows = torch.arange(len(prompts) * num_each, device=device)
    start = torch.tensor([p.next_position for p in prompts], device=device)
    start = start.repeat_interleave(num_each).expand(len(prompts[0].positions), -1)
    batch = layout.end_to_end(prompts) if share_prompt else layout.prefill(prompts, pad_id)
    features, kept = _features(module, prompts, device)
    mask = None if batch.attention_mask is None else batch.attention_mask.to(device)
    text = module.core.config.get_text_config()
    cache = DynamicCache(config=text)
    hidden = module.hidden(
        batch.input_ids.to(device),
        batch.positions.to(device),
        mask,
        cache=cache,
        groups=batch.groups,
        features=features,
        token_inputs={name: values.to(device) for name, values in batch.token_inputs.items()},
    )
    if mask is not None:
        each = rows // num_each
        cache.reorder_cache(each)  # type: ignore[arg-type]
        return PlainRows(rows, hidden[each, -1], start, kept, cache, mask[each])
    lengths = [p.num_tokens for p in prompts]
    ends = torch.tensor(lengths).cumsum(0).to(device) - 1
    plan = _kept_prompts(cache, lengths, num_each, device)
    states = {i: s for i, s in enumerate(cache.layers) if isinstance(s, LinearAttentionLayer)}
    own = AnswerCache(text.num_hidden_layers, device, states)
    own.fork(rows // num_each)
    first = hidden[0, ends].repeat_interleave(num_each, 0)
    return SharedRows(rows, first, start, kept, own, plan)


def _features(
    module: TokenLogProbs, prompts: Sequence[EncodedPrompt], device: torch.device
) -> tuple[Features | None, list[Features | None]]:
    """Features of the prompts' images, and those of each prompt if the module keeps them."""
    features = features_within(module.family, module.core, prompts, device)
    if features is None or not module.keeps_features:
        return features, [None] * len(prompts)
    return features, split(features, prompts)


def _kept_prompts(
    cache: DynamicCache, lengths: Sequence[int], num_each: int, device: torch.device
) -> SharedPrompts:
    """The prompts' keys and values, apart and padded on the right, for the decoding steps.

    Layer by layer, so that only one is in memory twice.
    """
    longest = -(-max(lengths) // PROMPT_MULTIPLE) * PROMPT_MULTIPLE

    def apart(row: Tensor) -> Tensor:
        parts = row[0].split(lengths, 1)  # [heads, L, D] each
        return torch.stack([pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])

    layers: dict[int, tuple[Tensor, Tensor]] = {}
    for i, layer in enumerate(cache.layers):
        if not isinstance(layer, DynamicLayer):
            continue  # a recurrent state
        assert layer.keys is not None
        assert layer.values is not None
        layers[i] = (apart(layer.keys), apart(layer.values))
        layer.keys = layer.values = None
    if min(lengths) == longest:
        return SharedPrompts(layers, None, num_each)
    is_real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    dtype = next(iter(layers.values()))[0].dtype
    padding = torch.zeros(is_real.shape, dtype=dtype).masked_fill(~is_real, -torch.inf)
    return SharedPrompts(layers, padding[:, None, None].to(device), num_each)
