"""The embedded judge's architecture: a Qwen2.5-VL of 1.4 million parameters for 64 px pictures."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from vlrl.warmup.model import _linear_patch_embed, _windowed_forward
from vlrl.warmup.tokenizer import CHAT_TEMPLATE, train_tokenizer

PATCH_PX, MERGE = 8, 2
"""A picture of 64 px is then 64 patches and 16 tokens."""
VOCAB_SIZE = 640


def judge_processor(texts: list[str]) -> Qwen2_5_VLProcessor:
    """A tokenizer that holds yes and no, whatever else; pictures of 64 px pass unchanged."""
    # Repeated until the merges of these words are certain to be learnt.
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
    ids: dict[str, Any] = {
        token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.get_added_vocab()
    }
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1] * 32}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 2048,
            "rope_parameters": rope,
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "intermediate_size": 240,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": PATCH_PX,
            "spatial_merge_size": MERGE,
            "window_size": 64,
            "fullatt_block_indexes": [2],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def new_judge(processor: Qwen2_5_VLProcessor, seed: int, folder: Path) -> None:
    """Random weights as a checkpoint."""
    torch.manual_seed(seed)
    tokenizer = processor.tokenizer
    model = Qwen2_5_VLForConditionalGeneration(judge_config(tokenizer))
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=[tokenizer.eos_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def use_fast_vision(core: Any) -> None:
    """The same vision tower with windows of equal length in one batch: on CPU much faster."""
    visual = core.model.visual
    visual.patch_embed.forward = types.MethodType(_linear_patch_embed, visual.patch_embed)
    for block in visual.blocks:
        block.attn.forward = types.MethodType(_windowed_forward, block.attn)
