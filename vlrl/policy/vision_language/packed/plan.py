"""Where groups lie in the one row of a forward pass, in the form that each kernel needs.

    row    [ prompt | answer 1 | ... | answer G | next group's prompt | ... ]

Every answer sees its prompt and itself, nothing else. Masks and bounds are made on the device once
per pass, when the first layer needs them, not once per layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroupSpan:
    """Where one group lies: a prompt, then its answers end to end."""

    start: int
    """The prompt's first column."""
    num_prompt_tokens: int
    lengths: tuple[int, ...]
    """Tokens of each answer, in order; may be 0."""

    @property
    def end_of_prompt(self) -> int:
        """The column after the prompt, the first answer's first."""
        return self.start + self.num_prompt_tokens

    @property
    def stop(self) -> int:
        """The column after the group's last answer."""
        return self.end_of_prompt + sum(self.lengths)


@dataclass(frozen=True)
class Block:
    """Some answers of one group, masked from each other: each attends to the prompt and itself."""

    start: int
    """First column of the block's answers."""
    mask: Tensor
    """True = may attend, [block, prompt + block]."""

    @property
    def stop(self) -> int:
        """The column after the block's last answer."""
        return self.start + len(self.mask)


@dataclass(frozen=True)
class Bounds:
    """Sequences that lie end to end."""

    lengths: tuple[int, ...]
    """Tokens, none of them 0."""
    ends: Tensor
    """0 and the column after each sequence, int32 [N + 1]."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Bounds:
        """Bounds of sequences of these lengths; empty ones are left out."""
        some = tuple(n for n in lengths if n)
        ends = torch.tensor([0, *accumulate(some)], dtype=torch.int32)
        return cls(some, ends.to(device))


@dataclass(frozen=True)
class Runs:
    """The row as sequences, for kernels that take sequences of unequal length."""

    own: Bounds
    """Every prompt and every answer, as they lie in the row."""
    answers: Tensor
    """Columns of all tokens of answers that have a prompt, [A]."""
    prompts: Tensor
    """Columns of all prompts that have an answer, [B]."""
    answers_by_group: Bounds
    """Bounds within `answers`, one sequence per group."""
    prompts_by_group: Bounds
    """Bounds within `prompts`, likewise."""


@dataclass(frozen=True)
class PackedGroups:
    """The plan of a forward pass over one row: all its groups, one after another without a gap."""

    spans: tuple[GroupSpan, ...]
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def num_tokens(self) -> int:
        """Length of the row."""
        return self.spans[-1].stop

    def blocks(self, device: torch.device) -> tuple[tuple[Block, ...], ...]:
        """Masked blocks of every group."""
        key = ("blocks", device)
        if key not in self._made:
            self._made[key] = tuple(tuple(_blocks(span, device)) for span in self.spans)
        return self._made[key]

    def runs(self, device: torch.device) -> Runs:
        """The row as sequences."""
        key = ("runs", device)
        if key not in self._made:
            self._made[key] = _runs(self.spans, device)
        return self._made[key]


def _blocks(span: GroupSpan, device: torch.device) -> Iterator[Block]:
    """Blocks of answers in order, each about as long as the prompt.

    Answers of a block are masked from each other, at a cost of its length squared; with blocks no
    longer than the prompt that stays below the cost of attending to the prompt.
    """
    start, pending = span.end_of_prompt, list[int]()
    for length in span.lengths:
        if pending and sum(pending) + length > span.num_prompt_tokens:
            yield _block(start, span.num_prompt_tokens, pending, device)
            start, pending = start + sum(pending), []
        pending.append(length)
    if sum(pending):
        yield _block(start, span.num_prompt_tokens, pending, device)


def _block(
    start: int, num_prompt_tokens: int, lengths: Sequence[int], device: torch.device
) -> Block:
    sizes = torch.tensor(lengths)
    owner = torch.arange(len(lengths)).repeat_interleave(sizes).to(device)
    answers = (owner[:, None] == owner).tril()
    prompt = answers.new_ones(len(owner), num_prompt_tokens)
    return Block(start, torch.cat([prompt, answers], 1))


def _runs(spans: Sequence[GroupSpan], device: torch.device) -> Runs:
    answered = [span for span in spans if span.num_prompt_tokens and sum(span.lengths)]
    answers = [torch.arange(span.end_of_prompt, span.stop) for span in answered]
    prompts = [torch.arange(span.start, span.end_of_prompt) for span in answered]
    none = torch.zeros(0, dtype=torch.long)
    return Runs(
        Bounds.of([n for span in spans for n in (span.num_prompt_tokens, *span.lengths)], device),
        torch.cat([none, *answers]).to(device),
        torch.cat([none, *prompts]).to(device),
        Bounds.of([len(columns) for columns in answers], device),
        Bounds.of([len(columns) for columns in prompts], device),
    )
