"""Tiny rows of the newest families of transformers 5.23."""

from __future__ import annotations

from families.tiny import INTERLEAVED, PATCHES, Row

NEWEST: dict[str, Row] = {
    "cohere_compass": Row(
        text={"logit_scale": 0.25, "sliding_window": 16, "layer_types": ["full_attention"] * 2,
              "rope_parameters": {"full_attention": INTERLEAVED}},
        vision={**PATCHES, "deepstack_visual_indexes": [0]},
        images={"patch_size": 16, "merge_size": 2},
        tokens={"image_token": "<|IMAGE_PAD|>", "video_token": "<|VIDEO_PAD|>"},
        shown=("<|VISION_START|><|IMAGE_PAD|><|VISION_END|>", "<|VIDEO_PAD|>"),
        ids={"image_token_id": "<|IMAGE_PAD|>", "video_token_id": "<|VIDEO_PAD|>",
             "vision_start_token_id": "<|VISION_START|>",
             "vision_end_token_id": "<|VISION_END|>"},
    ),
}  # fmt: skip
"""By model type."""
