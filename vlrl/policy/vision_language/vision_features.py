"""The vision tower's features of images and videos, computed within a budget of memory.

A frozen tower gives the same features in sampling, in the reference pass and in every pass of the
update, so they are computed once per rollout and replace the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlrl.families.encoded import EncodedPrompt, Features, Media, join_media
from vlrl.families.family import Family
from vlrl.families.interfaces import VisionLanguageModel

MAX_PATCHES = 16_384
"""Patches that go through a vision tower at once without gradient: an image of 3.2 megapixels."""


def on_device(media: Media, device: torch.device) -> Media:
    """Media on a device."""
    return {name: tensor.to(device) for name, tensor in media.items()}


def features_within(
    family: Family,
    core: VisionLanguageModel,
    prompts: Sequence[EncodedPrompt],
    device: torch.device,
) -> Features | None:
    """Features of the prompts' media, without gradient: the tower gets them in batches.

    A batch holds at most `MAX_PATCHES` patches, or one image. Not for an update under ZeRO-3, where
    all ranks must call the tower equally often. None where no prompt has an image.
    """
    parts = [part for p in prompts if p.media is not None for part in family.parts(p.media)]
    found: list[Features] = []
    for members in by_size(range(len(parts)), [size for _, size in parts], MAX_PATCHES):
        media = join_media([parts[i][0] for i in members])
        assert media is not None
        found.append(family.features(core, on_device(media, device)))
    return Features.join(found) if found else None


def by_size(rows: Sequence[int], sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Rows in batches whose sizes sum to at most `limit`, at least one row each."""
    found: list[list[int]] = []
    total = 0
    for i in rows:
        if not found or total + sizes[i] > limit:
            found.append([])
            total = 0
        found[-1].append(i)
        total += sizes[i]
    return found


def split(features: Features, prompts: Sequence[EncodedPrompt]) -> list[Features | None]:
    """The features of each prompt, on the CPU; None where a prompt has no image."""
    counts = [prompt.num_visual_tokens for prompt in prompts]
    parts = features.to("cpu").split(counts)
    return [part if count else None for part, count in zip(parts, counts, strict=True)]
