"""Tiny rows of the families that have recipes, packing or files of their own."""

from __future__ import annotations

from families.tiny import INTERLEAVED, MROPE, PATCHES, SIDE_PX, VISION, Row

_QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_QWEN = {
    "tokens": {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    "shown": (
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<|vision_start|><|video_pad|><|vision_end|>",
    ),
    "ids": _QWEN_IDS,
    "images": {"patch_size": 16, "merge_size": 2},
    "videos": {},
}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_DELTA = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "rope_parameters": {
        **INTERLEAVED, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5,
    },
}  # fmt: skip
_TILES = {"size": {"height": SIDE_PX, "width": SIDE_PX}}

TRAINED: dict[str, Row] = {
    "qwen3_vl_moe": Row(
        text={**_MOE, "rope_parameters": INTERLEAVED},
        vision={**PATCHES, "deepstack_visual_indexes": [0]},
        like="qwen3_vl",
        **_QWEN,
    ),
    "qwen3_5": Row(text=_DELTA, vision=PATCHES, **_QWEN),
    "qwen3_5_moe": Row(
        text={**_DELTA, **_MOE, "shared_expert_intermediate_size": 16}, vision=PATCHES, **_QWEN
    ),
    "internvl": Row(
        text={"model_type": "qwen2"},
        vision={**VISION, "image_size": [SIDE_PX] * 2, "patch_size": [7, 7]},
        images={**_TILES, "min_patches": 1, "max_patches": 4, "crop_to_patches": True},
        processor={"image_seq_length": 4},
        tokens={
            "start_image_token": "<img>", "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
        },
        shown=("<IMG_CONTEXT>\n", "<video>\n"),
        ids={"image_token_id": "<IMG_CONTEXT>"},
        videos=_TILES,
    ),
    "gemma3": Row(
        text={"sliding_window": 16, "num_hidden_layers": 4,
              "layer_types": ["sliding_attention", "full_attention"] * 2},
        config={"mm_tokens_per_image": 4, "boi_token_index": 5, "eoi_token_index": 6},
        images=_TILES,
        processor={"image_seq_length": 4},
        tokens={
            "image_token": "<image_soft_token>", "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        shown=("<start_of_image>", ""),
        ids={"image_token_id": "<image_soft_token>"},
        vision={**VISION, "patch_size": 7},
    ),
    "glm4v": Row(
        text={"rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}},
        vision={"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48,
                "out_hidden_size": 32, "image_size": 56, "patch_size": 14},
        tokens={"image_token": "<|image|>", "video_token": "<|video|>"},
        shown=("<|begin_of_image|><|image|><|end_of_image|>",
               "<|begin_of_video|><|video|><|end_of_video|>"),
        ids={
            "image_token_id": "<|image|>", "video_token_id": "<|video|>",
            "image_start_token_id": "<|begin_of_image|>",
            "image_end_token_id": "<|end_of_image|>",
            "video_start_token_id": "<|begin_of_video|>",
            "video_end_token_id": "<|end_of_video|>",
        },
        images={"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}},
    ),
    "smolvlm": Row(
        text={"model_type": "llama"},
        config={"scale_factor": 2},
        images={"size": {"longest_edge": 2 * SIDE_PX}, "max_image_size": {"longest_edge": SIDE_PX}},
        processor={"image_seq_len": 1},
        tokens={
            "image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
        },
        videos={"size": {"longest_edge": SIDE_PX}, "max_image_size": {"longest_edge": SIDE_PX}},
    ),
    "idefics3": Row(
        text={"model_type": "llama"},
        config={"scale_factor": 2},
        images={"size": {"longest_edge": 2 * SIDE_PX}, "max_image_size": {"longest_edge": SIDE_PX}},
        processor={"image_seq_len": 1},
        tokens={
            "image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
            "global_image_tag": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
        },
    ),
    "llava_onevision": Row(
        text={"model_type": "qwen2"},
        config={"image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
                "vision_feature_layer": -1, "vision_aspect_ratio": "anyres_max_9"},
        images={**_TILES, "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]},
        processor={"num_image_tokens": 4, "vision_feature_select_strategy": "full",
                   "vision_aspect_ratio": "anyres_max_9"},
        tokens={"image_token": "<image>", "video_token": "<video>"},
        ids={"image_token_id": "<image>", "video_token_id": "<video>"},
        videos=_TILES,
    ),
    "mistral3": Row(
        text={"model_type": "mistral", "sliding_window": None},
        vision={**VISION, "model_type": "pixtral", "image_size": 56, "head_dim": 16},
        config={"spatial_merge_size": 2, "vision_feature_layer": -1},
        images={"size": {"longest_edge": 56}, "patch_size": {"height": 14, "width": 14}},
        processor={"patch_size": 14, "spatial_merge_size": 2, "image_token": "[IMG]",
                   "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"},
        tokens={"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]",
                "image_end_token": "[IMG_END]"},
        shown=("[IMG]", ""),
        ids={"image_token_id": "[IMG]"},
    ),
}  # fmt: skip
"""By model type."""
