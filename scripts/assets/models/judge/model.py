"""The embedded judge's architecture: a Qwen2.5-VL of 1.4 million parameters for 64 px images."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from scripts.assets.models.gui_and_video.model import _linear_patch_embed, _windowed_forward
from scripts.assets.models.gui_and_video.qwen import random_model, small_config
from scripts.assets.models.gui_and_video.tokenizer import CHAT_TEMPLATE, train_tokenizer

PATCH_PX, MERGE = 8, 2
"""An image of 64 px is then 64 patches and 16 tokens."""
VOCAB_SIZE = 640


def judge_processor(texts: list[str]) -> Qwen2_5_VLProcessor:
    """A tokenizer that certainly has yes and no; images of 64 px pass unchanged."""
    # Repeated, so that the merges of these words are certain to be learnt.
    words = [text for word in ("yes", "no", "Yes", "No") for text in (word, f" {word}") * 2000]
    tokenizer = train_tokenizer([*texts, *words], VOCAB_SIZE)
    size = {"shortest_edge": 32 * 32, "longest_edge": 256 * 256}
    shape: dict[str, Any] = {"patch_size": PATCH_PX, "merge_size": MERGE, "size": size}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**shape),
        chat_template=CHAT_TEMPLATE,
    )


def judge_config(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    """Four layers of 128 on three vision layers of 96."""
    text = {
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
    }
    vision = {
        "depth": 3,
        "hidden_size": 96,
        "intermediate_size": 240,
        "num_heads": 2,
        "patch_size": PATCH_PX,
        "spatial_merge_size": MERGE,
        "window_size": 64,
        "fullatt_block_indexes": [2],
    }
    return small_config(tokenizer, text, vision, mrope_section=[1] * 32, rope_theta=1000.0)


def new_judge(processor: Qwen2_5_VLProcessor, seed: int, folder: Path) -> None:
    """Random weights as a checkpoint."""
    tokenizer = processor.tokenizer
    random_model(judge_config(tokenizer), tokenizer, seed).save_pretrained(folder)
    processor.save_pretrained(folder)


def use_fast_vision(core: Any) -> None:
    """The same vision tower with windows of equal length in one batch: on CPU much faster."""
    visual = core.model.visual
    visual.patch_embed.forward = types.MethodType(_linear_patch_embed, visual.patch_embed)
    for block in visual.blocks:
        block.attn.forward = types.MethodType(_windowed_forward, block.attn)
