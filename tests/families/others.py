"""Tiny rows of the families that run through the general adapter, plain."""

from __future__ import annotations

from families.tiny import MROPE, PATCHES, SIDE_PX, VISION, Row
from transformers import Gemma4AudioFeatureExtractor

_TILES = {"size": {"height": SIDE_PX, "width": SIDE_PX}}
_CROPS = {"size": {"shortest_edge": SIDE_PX}, "crop_size": {"height": SIDE_PX, "width": SIDE_PX}}
_CLIP = {**VISION, "model_type": "clip_vision_model", "projection_dim": 32}
_PINPOINTS = [[28, 56], [56, 28], [56, 56]]
_GLM_IDS = {
    "image_token_id": "<|image|>", "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>", "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>", "video_end_token_id": "<|end_of_video|>",
}  # fmt: skip
_GLM = {
    "tokens": {"image_token": "<|image|>", "video_token": "<|video|>"},
    "shown": (
        "<|begin_of_image|><|image|><|end_of_image|>",
        "<|begin_of_video|><|video|><|end_of_video|>",
    ),
    "ids": _GLM_IDS,
    "images": {"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}},
}
_GLM_VISION = {
    "depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 32,
    "image_size": 56, "patch_size": 14,
}  # fmt: skip
_GLM_ROPE = {**MROPE, "partial_rotary_factor": 1.0}
_EXPERTS = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
_QWEN_TOKENS = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
_QWEN_IDS = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
_QWEN_SHOWN = (
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<|vision_start|><|video_pad|><|vision_end|>",
)
_PIXTRAL = {
    "vision": {**VISION, "model_type": "pixtral", "image_size": 56, "head_dim": 16},
    "images": {"size": {"longest_edge": 56}, "patch_size": {"height": 14, "width": 14}},
}
_DELTA = {
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4,
    "rope_parameters": {**MROPE, "mrope_section": [1, 1, 2], "mrope_interleaved": True,
                        "partial_rotary_factor": 0.5},
}  # fmt: skip
_MINICPM = {
    "text": {"model_type": "qwen3_5_text", **_DELTA},
    "vision": {
        **VISION, "image_size": 56, "insert_layer_id": 0, "window_kernel_size": [2, 2],
    },
    "config": {"image_size": 56, "patch_size": 14, "insert_layer_id": 0},
    "images": {"scale_resolution": 56, "patch_size": 14, "max_slice_nums": 2},
    "tokens": {
        "image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
        "image_start_token": "<image>", "image_end_token": "</image>",
        "slice_start_token": "<slice>", "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>",
    },
    "shown": ("<|image_pad|>", "<|video_pad|>"),
    "ids": _QWEN_IDS,
}  # fmt: skip

OTHERS: dict[str, Row] = {
    "llava": Row(
        text={"model_type": "llama"}, vision=_CLIP, images=_CROPS,
        processor={"patch_size": 14, "vision_feature_select_strategy": "default",
                   "num_additional_image_tokens": 1},
        ids={"image_token_index": "<image>"},
    ),
    "vipllava": Row(
        text={"model_type": "llama"}, vision=_CLIP, images=_CROPS,
        config={"vision_feature_layer": [-2, -1]},
        processor={"patch_size": 14, "vision_feature_select_strategy": "default",
                   "num_additional_image_tokens": 1},
        ids={"image_token_index": "<image>"},
    ),
    "llava_next": Row(
        text={"model_type": "llama"}, vision=_CLIP,
        images={**_CROPS, "image_grid_pinpoints": _PINPOINTS},
        config={"image_grid_pinpoints": _PINPOINTS},
        processor={"patch_size": 14, "vision_feature_select_strategy": "default",
                   "num_additional_image_tokens": 1},
        ids={"image_token_index": "<image>"},
    ),
    "llava_next_video": Row(
        text={"model_type": "llama"}, vision=_CLIP,
        images={**_CROPS, "image_grid_pinpoints": _PINPOINTS},
        config={"image_grid_pinpoints": _PINPOINTS},
        processor={"patch_size": 14, "vision_feature_select_strategy": "default",
                   "num_additional_image_tokens": 1},
        tokens={"image_token": "<image>", "video_token": "<video>"},
        ids={"image_token_index": "<image>", "video_token_index": "<video>"},
    ),
    "aria": Row(
        text={"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
        vision={**VISION, "model_type": "idefics3_vision"},
        config={"projector_patch_to_query_dict": {1225: 4, 4900: 4}},
        images={"max_image_size": 490, "min_image_size": 28},
        processor={"size_conversion": {490: 4, 980: 4}},
        ids={"image_token_index": "<image>"},
    ),
    "aya_vision": Row(
        text={"model_type": "cohere2", "sliding_window": 16, "logit_scale": 0.25},
        vision={**VISION, "model_type": "siglip_vision_model"},
        images={**_TILES, "min_patches": 1, "max_patches": 4, "crop_to_patches": True},
        processor={"patch_size": 14, "img_size": SIDE_PX, "downsample_factor": 2},
        tokens={"image_token": "<image>"},
        ids={"image_token_index": "<|IMG_PATCH|>"},
    ),
    "cohere2_vision": Row(
        text={"model_type": "cohere2", "sliding_window": 16},
        vision={**VISION, "model_type": "siglip_vision_model"},
        config={"alignment_intermediate_size": 64},
        images={**_TILES, "min_patches": 1, "max_patches": 4, "patch_size": 1},
        tokens={"image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>",
                "eoi_token": "<|END_OF_IMG|>", "img_line_break_token": "<|IMG_LINE_BREAK|>"},
        shown=("<|IMG_PATCH|>", ""),
        ids={"image_token_id": "<|IMG_PATCH|>"},
    ),
    "idefics2": Row(
        text={"model_type": "mistral", "sliding_window": None},
        config={"perceiver_config": {"model_type": "idefics2_perceiver", "resampler_n_latents": 4,
                                     "resampler_depth": 1, "resampler_n_heads": 2,
                                     "resampler_head_dim": 16, "num_key_value_heads": 1,
                                     "hidden_size": 32}},
        images={"size": {"shortest_edge": 28, "longest_edge": 56}},
        processor={"image_seq_len": 4},
        tokens={"image_token": "<image>", "image_boundary_token": "<fake_token_around_image>",
                "end_of_utterance_token": "<end_of_utterance>"},
    ),
    "glm46v": Row(text={"rope_parameters": _GLM_ROPE}, vision=_GLM_VISION, **_GLM),
    "glm4v_moe": Row(
        text={"rope_parameters": _GLM_ROPE, **_EXPERTS}, vision=_GLM_VISION, like="glm4v", **_GLM
    ),
    "glm_ocr": Row(
        text={"rope_parameters": _GLM_ROPE}, vision=_GLM_VISION, like="glm46v", **_GLM
    ),
    "glm5_next": Row(
        text={
            **_EXPERTS, "num_key_value_heads": 2, "mlp_layer_types": ["dense", "sparse"],
            "layer_types": ["linear_attention", "indexed_attention"],
            "indexer_types": ["full"] * 2, "kv_lora_rank": 16, "q_lora_rank": 16,
            "v_head_dim": 16, "qk_nope_head_dim": 16, "head_dim": 0, "index_head_dim": 16,
            "index_n_heads": 32, "index_kpool": 2, "index_topk": 16, "linear_head_dim": 16,
            "linear_num_heads": 2,
        },
        vision=_GLM_VISION,
        **_GLM,
    ),
    "gemma4": Row(
        text={"sliding_window": 16, "num_hidden_layers": 2,
              "layer_types": ["sliding_attention", "full_attention"],
              "hidden_size_per_layer_input": 0, "global_head_dim": 16,
              "final_logit_softcapping": 3.0},
        vision={**VISION, "model_type": "gemma4_vision", "head_dim": 16, "num_key_value_heads": 2,
                "patch_size": 14},
        images={"patch_size": 14, "max_soft_tokens": 70},
        extra={"feature_extractor": Gemma4AudioFeatureExtractor()},
        tokens={"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>",
                "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
                "video_token": "<|video|>"},
        shown=("<|image|>", "<|video|>"),
        ids={"image_token_id": "<|image|>", "video_token_id": "<|video|>",
             "boi_token_id": "<|image>", "eoi_token_id": "<image|>"},
    ),
    "lfm2_vl": Row(
        text={"model_type": "lfm2", "layer_types": ["conv", "full_attention"], "conv_L_cache": 3},
        vision={**VISION, "model_type": "siglip2_vision_model", "num_patches": 64,
                "patch_size": 16},
        config={"projector_hidden_size": 32},
        images={"encoder_patch_size": 16, "tile_size": 64, "min_image_tokens": 4,
                "max_image_tokens": 16, "max_num_patches": 64, "downsample_factor": 2},
        tokens={"image_token": "<image>", "image_start_token": "<|image_start|>",
                "image_end_token": "<|image_end|>", "image_thumbnail": "<|img_thumbnail|>"},
    ),
    "lfm3_vl": Row(
        text={"model_type": "lfm3", "layer_types": ["conv", "full_attention"],
              "sliding_window": 16},
        vision={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "patch_size": 16,
                "layer_types": ["conv", "full_attention"]},
        config={"projector_hidden_size": 32},
        images={"patch_size": 16},
        tokens=_QWEN_TOKENS | {"vision_start_token": "<|vision_start|>",
                               "vision_end_token": "<|vision_end|>"},
        shown=_QWEN_SHOWN,
        ids=_QWEN_IDS | {"vision_start_token_id": "<|vision_start|>",
                         "vision_end_token_id": "<|vision_end|>"},
    ),
    "ovis2": Row(
        text={"model_type": "qwen2"},
        vision={**VISION, "vocab_size": 16, "hidden_stride": 2, "num_visual_indicator_tokens": 5},
        images={**_TILES, "min_patches": 1, "max_patches": 2},
        config={"hidden_size": 32, "visual_indicator_token_ids": [5, 6, 7, 8, 9]},
        processor={"image_seq_length": 1},
        ids={"image_token_id": "<IMG_ATOM>"},
    ),
    "paddleocr_vl": Row(
        text={"rope_parameters": MROPE},
        vision={**VISION, "image_size": 56},
        tokens={"image_token": "<|image_pad|>"},
        shown=("<|vision_start|><|image_pad|><|vision_end|>", ""),
        ids=_QWEN_IDS | {"vision_start_token_id": "<|vision_start|>",
                         "vision_end_token_id": "<|vision_end|>"},
    ),
    "kimi_k25": Row(
        text={"model_type": "deepseek_v3", **_EXPERTS, "q_lora_rank": 16, "kv_lora_rank": 16,
              "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "head_dim": 8,
              "num_key_value_heads": 2},
        vision={**VISION, "pos_emb_height": 8, "pos_emb_width": 8},
        config={"projection_hidden_size": 32},
        tokens={"image_token": "<|media_pad|>", "video_token": "<|video_pad|>"},
        shown=("<|media_begin|><|media_pad|><|media_end|>", "<|video_pad|>"),
        ids={"image_token_id": "<|media_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|media_begin|>", "vision_end_token_id": "<|media_end|>"},
    ),
    "lighton_ocr": Row(
        text={"model_type": "qwen3"}, config={"spatial_merge_size": 2}, **_PIXTRAL,
        processor={"patch_size": 14, "spatial_merge_size": 2},
        tokens={"image_token": "<|image_pad|>", "image_break_token": "<|vision_pad|>",
                "image_end_token": "<|vision_end|>"},
        shown=("<|image_pad|>", ""),
        ids={"image_token_id": "<|image_pad|>"},
    ),
    "mistral_large4": Row(
        text={"num_key_value_heads": 2, "final_logit_softcapping": 3.0},
        config={"spatial_merge_size": 2}, **_PIXTRAL,
        processor={"patch_size": 14, "spatial_merge_size": 2},
        tokens={"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]",
                "image_end_token": "[IMG_END]"},
        shown=("[IMG]", ""),
        ids={"image_token_index": "[IMG]"},
    ),
    "deepseek_vl": Row(
        text={"model_type": "llama"}, vision={**VISION, "model_type": "siglip_vision_model"},
        images={**_TILES, "min_size": 14}, processor={"num_image_tokens": 4},
        tokens={"image_token": "<image_placeholder>"}, shown=("<image_placeholder>", ""),
        ids={"image_token_id": "<image_placeholder>"},
    ),
    "video_llama_3": Row(
        text={"model_type": "qwen2"}, vision={**VISION},
        images={"size": {"shortest_edge": 28 * 28, "longest_edge": 84 * 84}},
        tokens={"image_token": "<image>", "video_token": "<video>"},
        ids={"image_token_id": "<image>", "video_token_id": "<video>"},
    ),
    "exaone4_5": Row(
        text={"model_type": "exaone4", "sliding_window": None,
              "layer_types": ["full_attention"] * 2},
        vision={**PATCHES, "num_key_value_heads": 2, "fullatt_block_indexes": [1]},
        tokens=_QWEN_TOKENS, shown=_QWEN_SHOWN, ids=_QWEN_IDS,
    ),
    "qianfan_ocr": Row(
        text={"model_type": "qwen3"},
        vision={**VISION, "image_size": [SIDE_PX] * 2, "patch_size": [7, 7]},
        images={**_TILES, "min_patches": 1, "max_patches": 4, "crop_to_patches": True},
        processor={"image_seq_length": 4},
        tokens={"start_image_token": "<img>", "end_image_token": "</img>",
                "context_image_token": "<IMG_CONTEXT>"},
        ids={"image_token_id": "<IMG_CONTEXT>"},
    ),
    "minicpmv4_6": Row(**_MINICPM),
    "minicpmv4_7": Row(**_MINICPM),
    "minicpm_ocr": Row(**_MINICPM),
    "ernie4_5_vl_moe": Row(
        text={"moe_intermediate_size": [16, 16], "moe_k": 2, "moe_num_experts": 4,
              "moe_num_shared_experts": 1, "mlp_layer_types": ["dense", "sparse"],
              "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                  "mrope_section": [3, 3, 2]}},
        vision={"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48},
        videos={"draw_on_frames": False},
        tokens={"image_token": "<|IMAGE_PLACEHOLDER|>", "image_start_token": "<|IMAGE_START|>",
                "image_end_token": "<|IMAGE_END|>", "video_token": "<|VIDEO_PLACEHOLDER|>",
                "video_start_token": "<|VIDEO_START|>", "video_end_token": "<|VIDEO_END|>"},
        shown=("<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>", ""),
        ids={"image_token_id": "<|IMAGE_PLACEHOLDER|>", "image_start_token_id": "<|IMAGE_START|>",
             "image_end_token_id": "<|IMAGE_END|>", "video_token_id": "<|VIDEO_PLACEHOLDER|>",
             "video_start_token_id": "<|VIDEO_START|>", "video_end_token_id": "<|VIDEO_END|>"},
    ),
}  # fmt: skip
"""By model type."""
