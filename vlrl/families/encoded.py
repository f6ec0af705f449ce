"""A prompt as the tensors that a vision-language model reads, and its vision tower's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

Media = Mapping[str, Tensor]
"""Pixels of images and videos, and their sizes; first axis: images, tiles or patches."""


@dataclass(frozen=True)
class Features:
    """What a vision tower made of images and videos, in the order of their tokens."""

    levels: Tensor
    """[1 + K, N, D]: what the embeddings of N visual tokens are, then K deepstack levels."""
    lists: frozenset[str] = frozenset(("image", "video"))
    """Modalities of which the model takes a list of tensors, not one."""
    also: Mapping[str, Tensor] = field(default_factory=dict)
    """What else they read of the tower's output, the same for all images."""

    @property
    def num_tokens(self) -> int:
        """Visual tokens."""
        return self.levels.shape[1]

    def select(self, index: Tensor) -> Features:
        """The features of some tokens, [M], or where a mask [N] is true."""
        return replace(self, levels=self.levels[:, index])

    def to(self, device: torch.device | str) -> Features:
        """The same on a device."""
        also = {name: tensor.to(device) for name, tensor in self.also.items()}
        return replace(self, levels=self.levels.to(device), also=also)

    def split(self, counts: Sequence[int]) -> list[Features]:
        """Consecutive parts of so many tokens."""
        return [replace(self, levels=part) for part in self.levels.split(list(counts), 1)]

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """Several in order; at least one."""
        lists = frozenset(name for part in parts for name in part.lists)
        levels = torch.cat([part.levels for part in parts], 1)
        return replace(parts[0], levels=levels, lists=lists)


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt, ready for the model, without padding."""

    input_ids: Tensor
    """[L]"""
    positions: Tensor
    """[K, L]: one axis, or M-RoPE's time, height and width."""
    media: Media | None = None
    """Of all its images and videos, in the order of their tokens; None where it has none."""
    num_visual_tokens: int = 0
    """Tokens whose embeddings are features of images and videos."""
    features: Features | None = None
    """Of a frozen vision tower; they replace the media."""
    image_size_px: tuple[int, int] | None = None
    """Width and height of its first image as the model sees it; None without, or with tiles."""
    token_inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """What else a model wants to know of every token, e.g. its type, by argument, [L] each."""

    @property
    def num_tokens(self) -> int:
        """Length of the prompt, visual tokens included."""
        return self.input_ids.shape[0]

    @property
    def next_position(self) -> int:
        """Position of the first answer token, the same on all axes."""
        return int(self.positions.max()) + 1

    def with_features(self, features: Features | None) -> EncodedPrompt:
        """The same with features in place of the media; itself for None."""
        return self if features is None else replace(self, media=None, features=features)


def join_media(parts: Sequence[Media | None]) -> Media | None:
    """Media of several prompts, in order, smaller ones padded with 0; None where none has any."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    names = dict.fromkeys(name for part in found for name in part)
    return {name: _end_to_end([p[name] for p in found if name in p]) for name in names}


def join_features(prompts: Sequence[EncodedPrompt]) -> Features | None:
    """Features of several prompts, in order; None where none has any."""
    kept = [prompt.features for prompt in prompts if prompt.features is not None]
    return Features.join(kept) if kept else None


def _end_to_end(tensors: Sequence[Tensor]) -> Tensor:
    """Along the first axis; the others are padded to the largest."""
    shapes = {tensor.shape[1:] for tensor in tensors}
    if len(shapes) == 1:
        return torch.cat(list(tensors))
    sizes = [max(tensor.shape[i] for tensor in tensors) for i in range(1, tensors[0].dim())]
    same = []
    for tensor in tensors:
        room = [
            side
            for size, own in zip(reversed(sizes), reversed(tensor.shape[1:]), strict=True)
            for side in (0, size - own)
        ]
        same.append(pad(tensor, room))
    return torch.cat(same)
