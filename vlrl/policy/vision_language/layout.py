"""How prompts and answers are laid out in the rows of one forward pass.

plain    one row per answer: [ pad | prompt | answer ]          prompts encoded G times
shared   one row of groups:  [ prompt | answer 1 | ... | answer G | next prompt | ... ]

Both give, for every sampled token, the row and column whose hidden state predicts it, which is all
that the model needs. In the shared layout every answer sees the prompt and itself, and its
positions start where the prompt's end: log-probs and gradients equal the plain ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlrl.policy.token_trajectory import EncodedPrompt, TokenTrajectory
from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups
from vlrl.policy.vision_language.prompts import join_features, join_images


@dataclass(frozen=True)
class Layout:
    """The tensors of one forward pass; R rows of L columns, A actions."""

    input_ids: Tensor
    """[R, L]"""
    positions: Tensor
    """[3, R, L]"""
    attention_mask: Tensor | None
    """[R, L], 1 = real token; None where `groups` defines what attends to what."""
    pixel_values: Tensor | None
    grid_thw: Tensor | None
    predictor: Tensor
    """Row and column of the hidden state that predicts each action, [2, A]."""
    targets: Tensor
    """The tokens taken, [A], in the order of `mask.nonzero()`."""
    groups: PackedGroups | None = None
    features: Tensor | None = None
    """Precomputed features of the images, [1 + K, N, D], instead of pixel values."""

    @property
    def num_tokens(self) -> int:
        """Cost of the pass in tokens, padding included."""
        return self.input_ids.numel()


def plain(traj: TokenTrajectory, pad_id: int) -> Layout:
    """One row per answer; prompts padded on the left so that all answers start in one column."""
    prompts = [traj.prompts[g] for g in traj.group.tolist()]
    P, T = max(p.num_tokens for p in prompts), int(traj.mask.sum(1).max())
    tokens, taken = traj.tokens[:, :T], traj.mask[:, :T]  # the longest answer of these rows
    R, L = len(prompts), P + T
    ids = torch.full((R, L), pad_id)
    positions = torch.zeros(3, R, L, dtype=torch.long)
    mask = torch.zeros(R, L, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        start = P - prompt.num_tokens
        ids[row, start:P] = prompt.input_ids
        positions[:, row, start:P] = prompt.positions
        positions[:, row, P:] = prompt.next_position + torch.arange(T)
        mask[row, start:P] = 1
    ids[:, P:] = torch.where(taken, tokens, pad_id)
    mask[:, P:] = taken
    rows, steps = taken.nonzero(as_tuple=True)
    predictor = torch.stack([rows, P + steps - 1])
    pixels, grids = join_images(prompts)
    return Layout(
        ids,
        positions,
        mask,
        pixels,
        grids,
        predictor,
        tokens[taken],
        features=join_features(prompts),
    )


def shared(traj: TokenTrajectory, pad_id: int) -> Layout:
    """All groups in one row without padding: each prompt once, then its answers.

    `groups` says what may attend to what, for vlrl.policy.vision_language.group_attention.
    """
    order = list(dict.fromkeys(traj.group.tolist()))
    members = {g: (traj.group == g).nonzero()[:, 0].tolist() for g in order}
    lengths = traj.mask.sum(1).tolist()
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    spans: list[GroupSpan] = []
    predictor = torch.zeros(2, len(traj), traj.tokens.shape[1], dtype=torch.long)
    end = 0
    for g in order:
        prompt = traj.prompts[g]
        span = GroupSpan(end, prompt.num_tokens, tuple(lengths[b] for b in members[g]))
        spans.append(span)
        ids.append(prompt.input_ids)
        positions.append(prompt.positions)
        end = span.end_of_prompt
        for b in members[g]:
            n = lengths[b]
            ids.append(traj.tokens[b, :n])
            positions.append((prompt.next_position + torch.arange(n)).expand(3, n))
            # The prompt's last token predicts every answer's first one.
            predictor[1, b, :n] = torch.arange(end - 1, end - 1 + n)
            predictor[1, b, :1] = span.end_of_prompt - 1
            end += n
    pixels, grids = join_images([traj.prompts[g] for g in order])
    return Layout(
        torch.cat(ids)[None],
        torch.cat(positions, 1)[:, None],
        None,
        pixels,
        grids,
        predictor[:, traj.mask],
        traj.tokens[traj.mask],
        PackedGroups(tuple(spans)),
        join_features([traj.prompts[g] for g in order]),
    )


def prefill(prompts: Sequence[EncodedPrompt], pad_id: int) -> Layout:
    """Prompts alone, padded on the left, to decode from; no actions."""
    P = max(p.num_tokens for p in prompts)
    ids = torch.full((len(prompts), P), pad_id)
    positions = torch.zeros(3, len(prompts), P, dtype=torch.long)
    mask = torch.zeros(len(prompts), P, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        start = P - prompt.num_tokens
        ids[row, start:] = prompt.input_ids
        positions[:, row, start:] = prompt.positions
        mask[row, start:] = 1
    pixels, grids = join_images(prompts)
    nothing = torch.zeros(2, 0, dtype=torch.long)
    return Layout(ids, positions, mask, pixels, grids, nothing, nothing[0])


def end_to_end(prompts: Sequence[EncodedPrompt]) -> Layout:
    """Prompts alone in one row without padding, to decode from; no actions."""
    spans: list[GroupSpan] = []
    for prompt in prompts:
        spans.append(GroupSpan(spans[-1].stop if spans else 0, prompt.num_tokens, ()))
    pixels, grids = join_images(prompts)
    nothing = torch.zeros(2, 0, dtype=torch.long)
    return Layout(
        torch.cat([p.input_ids for p in prompts])[None],
        torch.cat([p.positions for p in prompts], 1)[:, None],
        None,
        pixels,
        grids,
        nothing,
        nothing[0],
        PackedGroups(tuple(spans)),
    )
