"""Tiny voxel models of the real classes, and policies, samples and runs on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers_runs import run_config

from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.policy.voxel_tokens.codec_files import save_codec
from vlrl.policy.voxel_tokens.options import VoxelCodecConfig
from vlrl.policy.voxel_tokens.policy import VoxelTokenPolicy
from vlrl.protocols import PolicySetup
from vlrl.types import Message, Sample, TextPart

NUM_CODES = 32
SHAPE = VoxelCodecConfig(
    resolution=16,
    channels=(4, 8, 8),
    num_blocks=(0, 1, 1),
    num_middle_blocks=1,
    latent_channels=4,
    group=8,
    num_codes=NUM_CODES,
)
"""Eight codes per object."""
CAPTIONS = ("a red chair", "a tall lamp with two legs", "a box", "a low brown table")


def save_voxel_model(folder: Path) -> Path:
    """A checkpoint that writes codes, with its VQ-VAE in `codec/`."""
    import transformers
    from conftest import make_checkpoint

    make_checkpoint("qwen2_5_vl", folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    codes = [f"<mesh{k}>" for k in range(NUM_CODES)]
    processor.tokenizer.add_tokens([*codes, "<mesh-start>", "<mesh-end>"])
    processor.save_pretrained(folder)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(len(processor.tokenizer) + 7)
    with torch.no_grad():
        torch.manual_seed(1)
        model.get_input_embeddings().weight.normal_(0, 0.08)
    model.save_pretrained(folder)
    torch.manual_seed(0)
    codec = VoxelCodec(SHAPE)
    with torch.no_grad():
        codec.vq.embeddings.weight.normal_()
    save_codec(codec, folder / "codec")
    return folder


def samples(*captions: str) -> list[Sample]:
    """One sample per caption, without target."""
    return [
        Sample(text.replace(" ", "-"), "text_to_3d", (Message("user", (TextPart(text),)),), None)
        for text in captions or CAPTIONS[:3]
    ]


def make_voxel_policy(folder: Path, **options: Any) -> VoxelTokenPolicy:
    """A policy; keyword arguments are options of the config, except two of the run's."""
    kl = options.pop("kl_estimator", "auto")
    budget = options.pop("max_tokens_per_chunk", 100_000)
    checkpointing = options.pop("checkpointing", False)
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "codec": str(folder / "codec"),
        "max_plan_tokens": 5,
        "refine": {"instruction": "Now the details.", "max_plan_tokens": 4},
        **options,
    }
    return VoxelTokenPolicy(
        VoxelTokenPolicy.Options(model=str(folder), **settings),
        PolicySetup(
            dtype=torch.float32,
            max_tokens_per_chunk=budget,
            checkpointing=checkpointing,
            kl_estimator=kl,
        ),
    )


def boxes(resolution: int = 16) -> np.ndarray:
    """A table: four legs under a plate, bool [R, R, R]."""
    grid = np.zeros((resolution,) * 3, bool)
    a, b = resolution // 4, 3 * resolution // 4
    grid[a - 1 : b + 1, a - 1 : b + 1, b : b + 2] = True
    for x in (a, b - 1):
        for y in (a, b - 1):
            grid[x : x + 1, y : y + 1, a:b] = True
    return grid


def voxel_run(model: Path, data: Path, out: Path, name: str, **over: Any) -> dict[str, Any]:
    """A run of this policy; `over` as in run_config."""
    parts: dict[str, Any] = {
        "task": {"use": "text_to_3d", "data": {"train": {"path": str(data)}}},
        "policy": {
            "use": "voxel_tokens",
            "model": str(model),
            "codec": str(model / "codec"),
            "max_plan_tokens": 4,
            "refine": {"instruction": "Now the details.", "max_plan_tokens": 3},
        },
        "reward": {
            "stages": {
                "coarse": {"use": "helpers_voxels:filled"},
                "refined": {"use": "helpers_voxels:filled"},
            }
        },
        "algo": {"num_prompts": 4, "group_size": 4, "aggregate": "stage_token"},
    }
    return run_config(out, name, parts, over)


def filled(rollout: Any) -> float:
    """Something that a random model can learn: the share of occupied voxels."""
    return float(rollout.parsed.occupancy.mean())
