"""The vision tower with larger calls against transformers' own."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
import transformers
from torch import Tensor, nn

from vlrl.families.known import family_of
from vlrl.policy.vision_language import vision_kernels

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
GRIDS = {
    "one image": [[1, 16, 16]],
    "windows cut at the border": [[1, 10, 22]],
    "several sizes": [[1, 16, 16], [1, 4, 6], [1, 16, 16], [1, 10, 4]],
    "frames": [[3, 8, 12]],
}


def outcome(model: nn.Module, grid: Tensor) -> list[Tensor]:
    """Features and the gradient of a weighted sum of them, one tensor per weight."""
    vision = model.config.vision_config
    channels = getattr(vision, "in_channels", getattr(vision, "in_chans", 3))
    depth = channels * vision.temporal_patch_size * vision.patch_size**2
    make = torch.Generator().manual_seed(0)
    pixels = torch.randn(int(grid.prod(-1).sum()), depth, generator=make)
    model.zero_grad()
    found = (
        family_of(model.config).features(model, {"pixel_values": pixels, "grid_thw": grid}).levels
    )
    (found * torch.randn(found.shape, generator=make)).sum().backward()
    return [found.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_nothing_changes_but_the_calls(
    family: str, grid: list[list[int]], checkpoints: dict[str, Path]
) -> None:
    config = transformers.AutoConfig.from_pretrained(checkpoints[family])
    if family == "qwen2_5_vl":
        config.vision_config.window_size = 56  # 4 x 4 patches
        config.vision_config.fullatt_block_indexes = [1]
    kind = getattr(transformers, family_of(config).model_class)
    model = kind.from_pretrained(
        checkpoints[family], config=config, dtype=torch.float32, attn_implementation="sdpa"
    )
    names = set(model.state_dict())
    wanted = outcome(model, torch.tensor(grid))
    vision_kernels.use_in(model.model.visual)
    found = outcome(model, torch.tensor(grid))
    assert set(model.state_dict()) == names
    assert len(found) == len(wanted) > 5
    for ours, theirs in zip(found, wanted, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_windows_of_one_length_share_a_call(checkpoints: dict[str, Path]) -> None:
    config = transformers.AutoConfig.from_pretrained(checkpoints["qwen2_5_vl"])
    config.vision_config.window_size = 56
    config.vision_config.fullatt_block_indexes = []
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        checkpoints["qwen2_5_vl"], config=config, dtype=torch.float32
    )
    vision_kernels.use_in(model.model.visual)
    plain = vision_kernels.scaled_dot_product_attention
    with mock.patch.object(
        vision_kernels, "scaled_dot_product_attention", side_effect=plain
    ) as calls:
        outcome(model, torch.tensor([[1, 16, 16], [1, 16, 16]]))
    assert calls.call_count == config.vision_config.depth  # 32 windows each


def test_another_attention_is_left_alone(checkpoints: dict[str, Path]) -> None:
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        checkpoints["qwen2_5_vl"], dtype=torch.float32, attn_implementation="eager"
    )
    vision_kernels.use_in(model.model.visual)
    assert model.model.visual.config._attn_implementation == "eager"
