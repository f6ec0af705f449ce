"""How prompts and answers are laid out in the rows of one forward pass.

plain    a row an answer:  [ pad | prompt | answer ]            prompts encoded G times
shared   a row a group:    [ prompt | answer 1 | ... | answer G | pad ]   prompt encoded once

Both name, for every sampled token, the row and column whose hidden state predicts it, so that the
model needs to know nothing else. In the shared layout every answer sees the prompt and itself,
and its positions start where the prompt's end: log-probs and gradients equal the plain ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlrl.policy.prompts import EncodedPrompt, join_images
from vlrl.policy.trajectory import TokenTrajectory


@dataclass(frozen=True)
class Layout:
    """The tensors of one forward pass; R rows of L columns, A actions."""

    input_ids: Tensor
    """[R, L]"""
    positions: Tensor
    """[3, R, L]"""
    attention_mask: Tensor
    """[R, L] (1 = real token), or bool [R, 1, L, L] (True = may attend)."""
    pixel_values: Tensor | None
    grid_thw: Tensor | None
    predictor: Tensor
    """Row and column of the hidden state that predicts each action, [2, A]."""
    targets: Tensor
    """The tokens taken, [A], in the order of `mask.nonzero()`."""

    @property
    def num_tokens(self) -> int:
        """Cost of the pass: all tokens, padding included."""
        return self.input_ids.numel()


def plain(traj: TokenTrajectory, pad_id: int) -> Layout:
    """One row an answer; prompts padded on the left so that all answers start in one column."""
    prompts = [traj.prompts[g] for g in traj.group.tolist()]
    P, T = max(p.num_tokens for p in prompts), traj.tokens.shape[1]
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
    ids[:, P:] = torch.where(traj.mask, traj.tokens, pad_id)
    mask[:, P:] = traj.mask
    rows, steps = traj.mask.nonzero(as_tuple=True)
    predictor = torch.stack([rows, P + steps - 1])
    pixels, grids = join_images(prompts)
    return Layout(ids, positions, mask, pixels, grids, predictor, traj.tokens[traj.mask])


def shared(traj: TokenTrajectory, pad_id: int) -> Layout:
    """One row a group: the prompt once, then its answers, kept apart by the attention mask."""
    groups = list(dict.fromkeys(traj.group.tolist()))
    members = {g: (traj.group == g).nonzero()[:, 0].tolist() for g in groups}
    lengths = traj.mask.sum(1).tolist()
    width = {g: traj.prompts[g].num_tokens + sum(lengths[b] for b in members[g]) for g in groups}
    R, L = len(groups), max(width.values())
    ids = torch.full((R, L), pad_id)
    positions = torch.zeros(3, R, L, dtype=torch.long)
    # Segment 0 is the prompt, 1..G are the answers, -1 is padding.
    segment = torch.full((R, L), -1)
    predictor = torch.zeros(2, len(traj), traj.tokens.shape[1], dtype=torch.long)
    for row, g in enumerate(groups):
        prompt = traj.prompts[g]
        end = prompt.num_tokens
        ids[row, :end], positions[:, row, :end], segment[row, :end] = (
            prompt.input_ids,
            prompt.positions,
            0,
        )
        for number, b in enumerate(members[g], start=1):
            n = lengths[b]
            span = slice(end, end + n)
            ids[row, span] = traj.tokens[b, :n]
            positions[:, row, span] = prompt.next_position + torch.arange(n)
            segment[row, span] = number
            predictor[0, b, :n] = row
            # The prompt's last token predicts every answer's first one.
            predictor[1, b, :n] = torch.arange(end - 1, end - 1 + n)
            predictor[1, b, :1] = prompt.num_tokens - 1
            end += n
    pixels, grids = join_images([traj.prompts[g] for g in groups])
    return Layout(
        ids,
        positions,
        _segment_mask(segment),
        pixels,
        grids,
        predictor[:, traj.mask],
        traj.tokens[traj.mask],
    )


def _segment_mask(segment: Tensor) -> Tensor:
    """Causal attention to the prompt and to the own answer, [R, L] -> bool [R, 1, L, L]."""
    L = segment.shape[1]
    causal = torch.ones(L, L, dtype=torch.bool).tril()
    query, key = segment[:, :, None], segment[:, None, :]
    allowed = causal & ((key == 0) | (key == query))
    # Padding may look at itself: a row of the softmax with nothing allowed would be nan.
    return allowed[:, None]


def prefill(prompts: list[EncodedPrompt], pad_id: int) -> Layout:
    """Prompts alone, padded on the left, to be decoded from; no actions."""
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
