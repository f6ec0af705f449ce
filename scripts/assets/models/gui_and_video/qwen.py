"""Qwen2.5-VL's real class at any size, for a tokenizer made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
)


def small_config(
    tokenizer: Qwen2Tokenizer,
    text: Mapping[str, Any],
    vision: Mapping[str, Any],
    mrope_section: list[int],
    rope_theta: float,
) -> Qwen2_5_VLConfig:
    """`text` and `vision`: the sizes of both parts; ids and the vocabulary are the tokenizer's."""
    ids: dict[str, Any] = {
        token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.get_added_vocab()
    }
    rope = {"rope_type": "default", "rope_theta": rope_theta, "mrope_section": mrope_section}
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "rope_parameters": rope,
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={**vision, "out_hidden_size": text["hidden_size"]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def random_model(
    config: Qwen2_5_VLConfig, tokenizer: Qwen2Tokenizer, seed: int
) -> Qwen2_5_VLForConditionalGeneration:
    """A model of that shape with random weights, which samples from the whole vocabulary."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    ends = ("<|im_end|>", "<|endoftext|>")
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=[tokenizer.convert_tokens_to_ids(end) for end in ends],
        pad_token_id=tokenizer.pad_token_id,
    )
    return model
