"""A vision tower's work divided over the ranks of a sequence group, frame by frame.

The towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL attend within a frame only (a frame: one step of
`grid_thw` along time, two frames of a video), so that features do not depend on which frames are
computed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vlrl.families.encoded import Features, Media
from vlrl.families.family import Family
from vlrl.families.interfaces import VisionLanguageModel
from vlrl.protocols.sequence import SequenceGroup


@dataclass(frozen=True)
class Share:
    """Consecutive frames of the images and videos of a row."""

    start: int
    """First patch."""
    stop: int
    """The patch after the last one."""
    grid: list[tuple[int, int, int]]
    """Frames, rows and columns of patches of each image or video, as far as they are included."""


def shares(grid: Sequence[Sequence[int]], num: int) -> list[Share]:
    """All frames in `num` parts of about as many patches, in order; some may be empty.

    grid: frames, rows and columns of patches of each image and video.
    """
    total = sum(t * h * w for t, h, w in grid)
    found = [Share(0, 0, []) for _ in range(num)]
    start = 0
    for t, h, w in grid:
        for _ in range(t):
            middle = start + h * w / 2
            place = min(num - 1, int(middle * num / total))
            found[place] = _with_frame(found[place], start, h, w)
            start += h * w
    return found


def _with_frame(share: Share, start: int, h: int, w: int) -> Share:
    if not share.grid:
        return Share(start, start + h * w, [(1, h, w)])
    *before, (t, *size) = share.grid
    # Frames of two images of one size may count as one video: they do not see each other.
    last = [(t + 1, h, w)] if size == [h, w] else [(t, size[0], size[1]), (1, h, w)]
    return Share(share.start, share.stop + h * w, [*before, *last])


def divided_features(
    family: Family, core: VisionLanguageModel, media: Media, sequence: SequenceGroup
) -> Features:
    """Features of images in order, as `Family.features`; each rank runs its share.

    A rank without a frame runs the first one for nothing: under ZeRO-3 all must call the tower.
    Towers that do not attend within frames are run whole on every rank.
    """
    if not family.sees_frames_apart:
        return family.features(core, media)
    pixel_values, grid_thw = media["pixel_values"], media["grid_thw"]
    parts = shares(grid_thw.tolist(), sequence.size)
    merge = core.config.vision_config.spatial_merge_size**2
    own = parts[sequence.rank]
    _, h, w = grid_thw[0].tolist()
    run = own if own.grid else Share(0, h * w, [(1, h, w)])
    grid = torch.tensor(run.grid, device=grid_thw.device)
    part = {"pixel_values": pixel_values[run.start : run.stop], "grid_thw": grid}
    features = family.features(core, part)
    sizes = [(part.stop - part.start) // merge for part in parts]
    levels = sequence.gathered(features.levels[:, : sizes[sequence.rank]], sizes)
    return replace(features, levels=levels)
