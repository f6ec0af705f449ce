"""Tiny random checkpoints of real classes, with processors built from files of ours.

A row of `ROWS` is all that a model type needs here: its config at tiny size, the arguments of its
processor's parts, and the special tokens that the processor reads from its tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

EMBEDDED = Path(__file__).resolve().parent.parent.parent / "assets/models/tiny_qwen2_5_vl"
SIDE_PX = 28
"""Of a tower's image; two patches of 14 px along a side."""

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE_PX,
    "patch_size": 14,
}
PATCHES = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 32,
    "num_position_embeddings": 256,
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
INTERLEAVED = {**MROPE, "mrope_interleaved": True}

TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""  # noqa: E501 - a template's lines are its output


@dataclass(frozen=True)
class Row:
    """One model type at tiny size."""

    text: Mapping[str, Any] = field(default_factory=dict)
    """Changes of `TEXT`."""
    vision: Mapping[str, Any] = field(default_factory=lambda: VISION)
    config: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the image processor."""
    processor: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=lambda: {"image_token": "<image>"})
    """Tokens by the tokenizer's attribute."""
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the tokenizer."""
    shown: tuple[str, str] = ("<image>", "<video>")
    """What the chat template writes for an image and a video."""
    ids: Mapping[str, str] = field(default_factory=lambda: {"image_token_id": "<image>"})
    """Ids in the config by the token that has them."""
    videos: Mapping[str, Any] | None = None
    """Arguments of the video processor."""
    like: str | None = None
    """The type whose processor's classes it has, where transformers maps none to its own."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further parts of the processor, e.g. of sounds."""


def make(kind: str, row: Row, folder: Path, seed: int = 0) -> Path:
    """A checkpoint of the type, ready for `from_pretrained`."""
    marks = dict.fromkeys([*row.tokens.values(), *row.ids.values()])
    tokenizer = AutoTokenizer.from_pretrained(
        EMBEDDED, extra_special_tokens=dict(row.tokens), **row.tokenizer
    )
    tokenizer.add_tokens([m for m in marks if m not in tokenizer.get_vocab()], special_tokens=True)
    size = -(-len(tokenizer) // 64) * 64
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in row.ids.items()}
    text = {**TEXT, "vocab_size": size, "eos_token_id": tokenizer.eos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id, **row.text}
    config = AutoConfig.for_model(
        kind, **{"text_config": text, "vision_config": dict(row.vision), **ids, **row.config}
    )
    torch.manual_seed(seed)
    model = _class(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[kind])(config)
    with torch.no_grad():  # larger than the default 0.02, so that two wrong models differ
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _processor(kind, row, tokenizer).save_pretrained(folder)
    return folder


def _processor(kind: str, row: Row, tokenizer: Any) -> Any:
    like = row.like or kind
    images = IMAGE_PROCESSOR_MAPPING_NAMES.get(kind) or IMAGE_PROCESSOR_MAPPING_NAMES[like]
    videos = VIDEO_PROCESSOR_MAPPING_NAMES.get(kind) or VIDEO_PROCESSOR_MAPPING_NAMES.get(like)
    parts = {"image_processor": _class(_first(images))(**row.images)}
    if videos:
        parts["video_processor"] = _class(_first(videos))(**(row.videos or {}))
    template = TEMPLATE.replace("IMAGE", row.shown[0]).replace("VIDEO", row.shown[1])
    return _class(PROCESSOR_MAPPING_NAMES.get(kind) or PROCESSOR_MAPPING_NAMES[like])(
        tokenizer=tokenizer, chat_template=template, **parts, **row.extra, **row.processor
    )


def _first(names: Any) -> str:
    if isinstance(names, str):
        return names
    if isinstance(names, Mapping):
        return str(names.get("torchvision") or next(iter(names.values())))
    return str(next(name for name in names if name))


def _class(name: str) -> Any:
    return getattr(transformers, name)
