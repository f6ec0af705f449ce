"""The vision tower's features of images and videos, as one tensor, split by prompt.

A frozen tower gives the same features in sampling, in the reference pass and in every pass of the
update, so they are computed once per rollout and replace the patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlrl.families.interfaces import VisionLanguageModel

MAX_PATCHES = 16_384
"""Patches that go through a vision tower at once without gradient: an image of 3.2 megapixels."""


@dataclass
class VisionOutput:
    """The part of a vision tower's output that transformers' models read (`mm_encoder_outputs`)."""

    pooler_output: tuple[Tensor, ...]
    deepstack_features: list[tuple[Tensor, ...]]


def features_of(core: VisionLanguageModel, pixel_values: Tensor, grid_thw: Tensor) -> Tensor:
    """Features of images in order, [1 + K, N, D]: the merged patches, then K deepstack levels.

    Only Qwen3-VL has deepstack levels; they have the language model's width too.
    """
    output = core.model.get_image_features(
        pixel_values, grid_thw.to(pixel_values.device), return_dict=True
    )
    levels = [output["pooler_output"], *(output.get("deepstack_features") or [])]
    return torch.stack([torch.cat(list(level)) for level in levels])


def features_within(
    core: VisionLanguageModel, pixel_values: Tensor, grid_thw: Tensor, device: torch.device
) -> Tensor:
    """The same, for patches anywhere and no gradient: images go to the tower in batches.

    A batch holds at most `MAX_PATCHES` patches, or one image. Not for an update under ZeRO-3, where
    all ranks must call the tower equally often.
    """
    sizes = grid_thw.prod(-1).tolist()
    images = list(zip(pixel_values.split(sizes), grid_thw, strict=True))
    found: list[Tensor] = []
    for members in by_size(range(len(images)), sizes, MAX_PATCHES):
        patches = torch.cat([images[i][0] for i in members]).to(device)
        found.append(features_of(core, patches, torch.stack([images[i][1] for i in members])))
    return torch.cat(found, 1)


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


def as_output(features: Tensor) -> VisionOutput:
    """The features in the form that the models take."""
    first, *deeper = features.unbind(0)
    return VisionOutput((first,), [(level,) for level in deeper])


def as_outputs(
    core: VisionLanguageModel, input_ids: Tensor, features: Tensor
) -> dict[str, VisionOutput]:
    """Features of images and videos, [1 + K, N, D] in the order of their tokens, by modality.

    The models insert them modality by modality; the tokens themselves say which feature belongs
    to which.
    """
    visual = input_ids[
        (input_ids == core.config.image_token_id) | (input_ids == core.config.video_token_id)
    ]
    is_video = visual == core.config.video_token_id
    if not is_video.any():
        return {"image": as_output(features)}
    if is_video.all():
        return {"video": as_output(features)}
    return {
        "image": as_output(features[:, ~is_video]),
        "video": as_output(features[:, is_video]),
    }


def num_visual_tokens(core: VisionLanguageModel, grid_thw: Tensor) -> int:
    """Visual tokens of some images: patches, merged by the tower."""
    merge = core.config.vision_config.spatial_merge_size
    return int(grid_thw.prod(-1).sum()) // merge**2


def split(
    core: VisionLanguageModel, features: Tensor, grids: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The features of each prompt, on the CPU; None where a prompt has no image."""
    counts = [0 if grid is None else num_visual_tokens(core, grid) for grid in grids]
    parts = features.cpu().split(counts, dim=1)
    return [None if grid is None else part for grid, part in zip(grids, parts, strict=True)]
