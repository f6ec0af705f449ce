"""Questions as rows of tokens, with their common prefix once.

    [ instruction, examples | question 1 | question 2 | ... ]          one span, or
    [ instruction, examples, caption A | q1 | q2 | instruction, examples, caption B | q3 | ... ]

whichever has fewer tokens. Every question attends to the prefix and itself, at its own positions,
so the logits equal those of separate questions (vlrl/policy/vision_language/group_attention.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups


@dataclass(frozen=True)
class EncodedAsk:
    """One question in tokens, without padding."""

    input_ids: Tensor
    """[L]"""
    positions: Tensor
    """[3, L]"""
    images: tuple[tuple[int, int, int], ...]
    """(image, first column, column after the last) of each image's tokens, in order."""
    about: str = ""
    num_asked: int = 0
    """Tokens before the answer; 0 = all."""

    @property
    def length(self) -> int:
        """Tokens before the answer."""
        return self.num_asked or len(self.input_ids)

    @property
    def next_position(self) -> int:
        """M-RoPE position of the token after it."""
        return int(self.positions.max()) + 1

    def continued(self, tokens: Sequence[int]) -> EncodedAsk:
        """The question with more text appended; the answer is read after it."""
        return replace(self.followed_by(tokens), num_asked=0)

    def followed_by(self, tokens: Sequence[int]) -> EncodedAsk:
        """The question followed by an answer."""
        more = torch.tensor(list(tokens), dtype=torch.long)
        steps = (self.next_position + torch.arange(len(more))).expand(3, -1)
        return EncodedAsk(
            torch.cat([self.input_ids, more]),
            torch.cat([self.positions, steps], 1),
            self.images,
            self.about,
            self.length,
        )


@dataclass(frozen=True)
class Packed:
    """The tensors of one forward pass over several questions, one row."""

    input_ids: Tensor
    """[R, L], R = 1 where prefixes are shared."""
    positions: Tensor
    """[3, R, L]"""
    groups: PackedGroups | None
    """What attends to what in a shared row."""
    attention_mask: Tensor | None
    """[R, L] of padded rows, 1 = real token."""
    images: tuple[int, ...]
    """The image of each run of image tokens, in order of the rows."""
    last: Tensor
    """Row and column of the last token before each answer, [2, A]."""
    order: tuple[int, ...]
    """The question of each of them."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows, padding included."""
        return self.input_ids.numel()

    def answer_places(self, asks: Sequence[EncodedAsk]) -> tuple[Tensor, Tensor]:
        """Where each answer token is predicted, [2, N], and the tokens, [N]; in `order`."""
        said = [asks[i] for i in self.order]
        lengths = [len(one.input_ids) - one.length for one in said]
        places = [
            self.last[:, i : i + 1] + torch.tensor([[0], [1]]) * torch.arange(n)
            for i, n in enumerate(lengths)
        ]
        return torch.cat(places, 1), torch.cat([one.input_ids[one.length :] for one in said])


def common_prefix(asks: Sequence[EncodedAsk]) -> int:
    """Number of tokens, images included, that all begin with; leaves at least one of each."""
    first = asks[0]
    length = min(one.length for one in asks) - 1
    for one in asks[1:]:
        differs = (one.input_ids[:length] != first.input_ids[:length]).nonzero()
        length = int(differs[0]) if len(differs) else length
        for mine, theirs in zip(first.images, one.images, strict=False):
            if mine != theirs:
                length = min(length, mine[1], theirs[1])
                break
    # An image is never split.
    for _, start, stop in first.images:
        if start < length < stop:
            length = start
    return length


def pack(asks: Sequence[EncodedAsk], *, share: bool = True) -> Packed:
    """One row of all questions; without `share` each keeps its own prefix."""
    everything = list(range(len(asks)))
    if not share:
        return _pack(asks, [[i] for i in everything])
    by_subject: dict[str, list[int]] = {}
    for i in everything:
        by_subject.setdefault(asks[i].about, []).append(i)
    plans = [[everything], list(by_subject.values())]
    return _pack(asks, min(plans, key=lambda plan: _num_tokens(asks, plan)))


def padded(asks: Sequence[EncodedAsk]) -> Packed:
    """One row per question, padded on the right: faster for short prefixes and small models."""
    num, width = len(asks), max(len(one.input_ids) for one in asks)
    ids = torch.zeros(num, width, dtype=torch.long)
    positions = torch.zeros(3, num, width, dtype=torch.long)
    mask = torch.zeros(num, width, dtype=torch.long)
    for row, one in enumerate(asks):
        length = len(one.input_ids)
        ids[row, :length], mask[row, :length] = one.input_ids, 1
        positions[:, row, :length] = one.positions
    last = torch.stack([torch.arange(num), torch.tensor([one.length - 1 for one in asks])])
    images = tuple(image for one in asks for image, _, _ in one.images)
    return Packed(ids, positions, None, mask, images, last, tuple(range(num)))


def batches(asks: Sequence[EncodedAsk], max_tokens: int) -> list[list[int]]:
    """Questions in batches of about `max_tokens`, those on one subject together."""
    order = sorted(range(len(asks)), key=lambda i: (asks[i].about, i))
    shared = common_prefix(asks) if len(asks) > 1 else 0
    found: list[list[int]] = []
    cost = 0
    for i in order:
        own = len(asks[i].input_ids) - shared
        if not found or cost + own > max_tokens:
            found.append([])
            cost = shared
        found[-1].append(i)
        cost += own
    return found


def chunks(encoded: Sequence[EncodedAsk], max_tokens: int, unit: int) -> list[list[int]]:
    """Rows of one forward each, `unit` neighbours together."""
    if unit == 1:
        return batches(encoded, max_tokens)
    found: list[list[int]] = []
    cost = 0
    for start in range(0, len(encoded), unit):
        rows = list(range(start, start + unit))
        own = sum(len(encoded[i].input_ids) for i in rows)
        if not found or cost + own > max_tokens:
            found.append([])
            cost = 0
        found[-1] += rows
        cost += own
    return found


def _num_tokens(asks: Sequence[EncodedAsk], plan: Sequence[Sequence[int]]) -> int:
    total = 0
    for members in plan:
        shared = common_prefix([asks[i] for i in members])
        total += shared + sum(len(asks[i].input_ids) - shared for i in members)
    return total


def _pack(asks: Sequence[EncodedAsk], plan: Sequence[Sequence[int]]) -> Packed:
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    spans: list[GroupSpan] = []
    images: list[int] = []
    last: list[int] = []
    order: list[int] = []
    end = 0
    for members in plan:
        group = [asks[i] for i in members]
        shared = common_prefix(group)
        span = GroupSpan(end, shared, tuple(len(one.input_ids) - shared for one in group))
        spans.append(span)
        ids.append(group[0].input_ids[:shared])
        positions.append(group[0].positions[:, :shared])
        images += [image for image, start, _ in group[0].images if start < shared]
        end = span.end_of_prompt
        for i, one in zip(members, group, strict=True):
            ids.append(one.input_ids[shared:])
            positions.append(one.positions[:, shared:])
            images += [image for image, start, _ in one.images if start >= shared]
            last.append(end + one.length - shared - 1)
            end += len(one.input_ids) - shared
            order.append(i)
    return Packed(
        torch.cat(ids)[None],
        torch.cat(positions, 1)[:, None],
        PackedGroups(tuple(spans)),
        None,
        tuple(images),
        torch.stack([torch.zeros(len(last), dtype=torch.long), torch.tensor(last)]),
        tuple(order),
    )
