"""How prompts and answers are laid out in the rows of one forward pass.

plain    one row per answer: [ pad | prompt | answer ]          prompts encoded G times
shared   one row of groups:  [ prompt | answer 1 | ... | answer G | next prompt | ... ]

Both give, for every sampled token, the row and column whose hidden state predicts it, which is all
that the model needs. In the shared layout every answer sees the prompt and itself, and its
positions start where the prompt's end: log-probs and gradients equal the plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vlrl.families.encoded import EncodedPrompt, Features, Media, join_features, join_media
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups


@dataclass(frozen=True)
class Layout:
    """The tensors of one forward pass; R rows of L columns, A actions."""

    input_ids: Tensor
    """[R, L]"""
    positions: Tensor
    """[K, R, L]"""
    attention_mask: Tensor | None
    """[R, L], 1 = real token; None where `groups` defines what attends to what."""
    media: Media | None
    predictor: Tensor
    """Row and column of the hidden state that predicts each action, [2, A]."""
    targets: Tensor
    """The tokens taken, [A], in the order of `mask.nonzero()`."""
    groups: PackedGroups | None = None
    features: Features | None = None
    """Precomputed features of the images and videos, instead of media."""
    shown: Tensor | None = None
    """The feature of each visual token, [N], an index; None: each once, in order."""
    token_inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """What else the model wants to know of every token, by argument, [R, L] each."""

    def to(self, device: torch.device) -> Layout:
        """The same on a device."""

        def moved(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device) for name, tensor in given.items()}

        return replace(
            self,
            input_ids=self.input_ids.to(device),
            positions=self.positions.to(device),
            attention_mask=None if self.attention_mask is None else self.attention_mask.to(device),
            media=None if self.media is None else moved(self.media),
            predictor=self.predictor.to(device),
            targets=self.targets.to(device),
            features=None if self.features is None else self.features.to(device),
            shown=None if self.shown is None else self.shown.to(device),
            token_inputs=moved(self.token_inputs),
        )

    @property
    def num_tokens(self) -> int:
        """Cost of the pass in tokens, padding included."""
        return self.input_ids.numel()


def plain(traj: TokenTrajectory, pad_id: int) -> Layout:
    """One row per answer; prompts padded on the left so that all answers start in one column."""
    groups = traj.group.tolist()
    T = int(traj.mask.sum(1).max())
    tokens, taken = traj.tokens[:, :T], traj.mask[:, :T]  # the longest answer of these rows
    left = _on_the_left([traj.prompts[g] for g in groups], pad_id, T)
    P = left.input_ids.shape[1] - T
    left.input_ids[:, P:] = torch.where(taken, tokens, pad_id)
    assert left.attention_mask is not None
    left.attention_mask[:, P:] = taken
    rows, steps = taken.nonzero(as_tuple=True)
    order = list(dict.fromkeys(groups))
    prompts = [traj.prompts[g] for g in order]
    return replace(
        left,
        media=join_media([prompt.media for prompt in prompts]),
        predictor=torch.stack([rows, P + steps - 1]),
        targets=tokens[taken],
        features=join_features(prompts),
        shown=_shown(prompts, [order.index(g) for g in groups]),
    )


def _shown(prompts: Sequence[EncodedPrompt], rows: Sequence[int]) -> Tensor | None:
    """The feature of each visual token of rows that show these prompts; None: each once."""
    if list(rows) == list(range(len(prompts))):
        return None
    counts = [prompt.num_visual_tokens for prompt in prompts]
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return torch.cat([torch.arange(starts[i], starts[i] + counts[i]) for i in rows])


def _on_the_left(prompts: Sequence[EncodedPrompt], pad_id: int, num_free: int) -> Layout:
    """Prompts alone, padded on the left, then free columns whose positions go on."""
    P = max(p.num_tokens for p in prompts)
    R, L, axes = len(prompts), P + num_free, len(prompts[0].positions)
    ids = torch.full((R, L), pad_id)
    positions = torch.zeros(axes, R, L, dtype=torch.long)
    mask = torch.zeros(R, L, dtype=torch.long)
    names = dict.fromkeys(name for prompt in prompts for name in prompt.token_inputs)
    more = {name: torch.zeros(R, L, dtype=torch.long) for name in names}
    for row, prompt in enumerate(prompts):
        start = P - prompt.num_tokens
        ids[row, start:P] = prompt.input_ids
        positions[:, row, start:P] = prompt.positions
        positions[:, row, P:] = prompt.next_position + torch.arange(num_free)
        mask[row, start:P] = 1
        for name, values in prompt.token_inputs.items():
            more[name][row, start:P] = values
    nothing = torch.zeros(2, 0, dtype=torch.long)
    return Layout(ids, positions, mask, None, nothing, nothing[0], token_inputs=more)


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
            steps = prompt.next_position + torch.arange(n)
            positions.append(steps.expand(len(prompt.positions), n))
            # The prompt's last token predicts every answer's first one.
            predictor[1, b, :n] = torch.arange(end - 1, end - 1 + n)
            predictor[1, b, :1] = span.end_of_prompt - 1
            end += n
    return Layout(
        torch.cat(ids)[None],
        torch.cat(positions, 1)[:, None],
        None,
        join_media([traj.prompts[g].media for g in order]),
        predictor[:, traj.mask],
        traj.tokens[traj.mask],
        PackedGroups(tuple(spans)),
        join_features([traj.prompts[g] for g in order]),
    )


def prefill(prompts: Sequence[EncodedPrompt], pad_id: int) -> Layout:
    """Prompts alone, padded on the left, to decode from; no actions."""
    return replace(
        _on_the_left(prompts, pad_id, 0), media=join_media([prompt.media for prompt in prompts])
    )


def end_to_end(prompts: Sequence[EncodedPrompt]) -> Layout:
    """Prompts alone in one row without padding, to decode from; no actions."""
    spans: list[GroupSpan] = []
    for prompt in prompts:
        spans.append(GroupSpan(spans[-1].stop if spans else 0, prompt.num_tokens, ()))
    nothing = torch.zeros(2, 0, dtype=torch.long)
    return Layout(
        torch.cat([p.input_ids for p in prompts])[None],
        torch.cat([p.positions for p in prompts], 1)[:, None],
        None,
        join_media([prompt.media for prompt in prompts]),
        nothing,
        nothing[0],
        PackedGroups(tuple(spans)),
    )
