"""What differs between the vision-language families, as a table; looked up by `model_type`.

The model type is in the checkpoint's own config.json, so that renaming a folder changes nothing.
Pixel bounds and patch sizes come from the checkpoint's processor where it states them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlrl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Family:
    """Facts of one family of vision-language models."""

    model_class: str
    """Its class in transformers."""
    coordinates: str
    """Coordinate profile (vlrl/families/profiles) that its checkpoints were trained with."""
    forbidden_tokens: tuple[str, ...]
    """Never sampled: a sampled image token has no image behind it and breaks the next forward."""


_VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family("Qwen2VLForConditionalGeneration", "qwen2_vl", _VISION_TOKENS),
    "qwen2_5_vl": Family("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", _VISION_TOKENS),
    "qwen3_vl": Family("Qwen3VLForConditionalGeneration", "qwen3_vl", _VISION_TOKENS),
}


def family_of(config: PretrainedConfig) -> Family:
    """The family of a loaded transformers config; ConfigError for any other model type."""
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"no vision-language policy for model_type {config.model_type!r}; "
            f"{did_you_mean(config.model_type, FAMILIES)}"
        )
    return FAMILIES[config.model_type]
