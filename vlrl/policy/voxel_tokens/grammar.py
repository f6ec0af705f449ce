"""The form of an answer with objects, token by token.

    one stage     words* <mesh-start> code x T <mesh-end>
    two stages    the same, then a forced turn that asks for details, then the same again

`words` end when the model writes the start token, or at their limit, where the start is forced.
Forced tokens are not actions: they have log-prob 0 and no gradient. Without constraint a stage is
`free`: any token may come, until an end token, an end of turn, or the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlrl.policy.distribution import is_one_of

WORDS, CODES, FREE, FORCED = range(4)
"""Kinds of tokens."""
SLACK_TOKENS = 16
"""Tokens by which a free stage may exceed its words and an object."""


@dataclass(frozen=True)
class MeshTokens:
    """Ids of the codes, and of the tokens around them."""

    first: int
    """Code 0; the rest follow."""
    num_codes: int
    start: int
    end: int

    def is_code(self, tokens: Tensor) -> Tensor:
        """True where a token is a code, same shape."""
        return (tokens >= self.first) & (tokens < self.first + self.num_codes)


@dataclass(frozen=True)
class Segment:
    """A run of tokens of one kind."""

    kind: int
    stage: int
    max_tokens: int
    forced: tuple[int, ...] = ()


def program(
    mesh: MeshTokens,
    num_codes_each: int,
    word_limits: Sequence[int],
    instruction: Sequence[int],
    *,
    constrained: bool,
) -> list[Segment]:
    """The segments of an answer; `word_limits` has one number per stage."""
    segments: list[Segment] = []
    for stage, limit in enumerate(word_limits):
        if stage:
            # The turn contains no actions; its stage only fills [B, T].
            segments.append(Segment(FORCED, stage, len(instruction), tuple(instruction)))
        if constrained:
            segments.append(Segment(WORDS, stage, limit))
            segments.append(Segment(CODES, stage, num_codes_each))
            segments.append(Segment(FORCED, stage, 1, (mesh.end,)))
        else:
            segments.append(Segment(FREE, stage, limit + num_codes_each + SLACK_TOKENS))
    return segments


def max_tokens(segments: Sequence[Segment]) -> int:
    """Largest length of an answer: words that reach their limit have a forced start token."""
    return sum(segment.max_tokens + (segment.kind == WORDS) for segment in segments)


class Grammar:
    """The state of every row of a batch; see vlrl.policy.vision_language.answers.Rules."""

    def __init__(
        self, segments: Sequence[Segment], mesh: MeshTokens, stop_tokens: Tensor, num_rows: int
    ) -> None:
        device = stop_tokens.device
        self.mesh, self.stop_tokens = mesh, stop_tokens
        self.kinds = torch.tensor([s.kind for s in segments], device=device)
        self.stages = torch.tensor([s.stage for s in segments], device=device)
        self.limits = torch.tensor([s.max_tokens for s in segments], device=device)
        width = max([1, *(len(s.forced) for s in segments)])
        rows = [[*s.forced, *[-1] * (width - len(s.forced))] for s in segments]
        self.forced = torch.tensor(rows, device=device)
        self.segment = torch.zeros(num_rows, dtype=torch.long, device=device)
        self.offset = torch.zeros(num_rows, dtype=torch.long, device=device)
        self.ended = torch.zeros(num_rows, dtype=torch.bool, device=device)
        self.cut = torch.zeros(num_rows, dtype=torch.bool, device=device)
        """Rows that ended at a limit."""
        shape = (num_rows, max_tokens(segments))
        self.shown = torch.full(shape, FORCED, device=device)
        """Kind of every token, [B, T]; arbitrary after a row's end."""
        self.stage = torch.zeros(shape, dtype=torch.long, device=device)
        """Stage of every token, likewise."""
        self.column = torch.zeros(1, dtype=torch.long, device=device)

    def next(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Kinds and forced tokens of some rows, [R] each."""
        segment = self.segment[rows].clamp(max=len(self.kinds) - 1)
        offset = self.offset[rows]
        kind = self.kinds[segment]
        place = offset.clamp(max=self.forced.shape[1] - 1)
        token = torch.where(kind == FORCED, self.forced[segment, place], -1)
        full = (kind == WORDS) & (offset >= self.limits[segment])
        token = torch.where(full, self.mesh.start, token)
        shown = torch.where(token >= 0, FORCED, kind)
        self.shown[rows, self.column] = shown
        self.stage[rows, self.column] = self.stages[segment]
        self.column.add_(1)
        return shown, token

    def take(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Accept one token per row, [R] -> whether each row has ended."""
        live = ~self.ended[rows]
        segment = self.segment[rows].clamp(max=len(self.kinds) - 1)
        kind = self.kinds[segment]
        offset = self.offset[rows] + 1
        full = offset >= self.limits[segment]
        stopped = (kind == FREE) & is_one_of(tokens, self.stop_tokens)
        closed = (kind == FREE) & (tokens == self.mesh.end)
        done = torch.where(kind == WORDS, tokens == self.mesh.start, full & (kind != FREE)) | closed
        cut = (kind == FREE) & full & ~closed & ~stopped
        self.segment[rows] = torch.where(live & done, segment + 1, self.segment[rows])
        self.offset[rows] = torch.where(done, 0, offset)
        over = stopped | cut | (done & (segment + 1 >= len(self.kinds)))
        self.cut[rows] |= live & cut
        self.ended[rows] |= live & over
        return self.ended[rows]

    def table(self, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Kind and stage of every token, [B, T] each, on CPU; arbitrary after a row's end."""
        return self.shown[:, :num_tokens].cpu(), self.stage[:, :num_tokens].cpu()
