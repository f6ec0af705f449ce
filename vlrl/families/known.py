"""The families that vlrl trains, by `model_type`: one row each.

The model type is in the checkpoint's own config.json, so that renaming a folder changes nothing.
Pixel bounds and patch sizes come from the checkpoint's processor where it states them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.family import Family
from vlrl.families.general import General
from vlrl.families.qwen_vl import QwenVL

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_DELTA = ("Qwen3_5GatedDeltaNet", "Qwen3_5MoeGatedDeltaNet")

FAMILIES: dict[str, Family] = {
    "qwen2_vl": QwenVL("Qwen2VLForConditionalGeneration", "qwen2_vl"),
    "qwen2_5_vl": QwenVL("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl"),
    "qwen3_vl": QwenVL("Qwen3VLForConditionalGeneration", "qwen3_vl"),
    "qwen3_vl_moe": QwenVL(
        "Qwen3VLMoeForConditionalGeneration",
        "qwen3_vl",
        sparse_blocks=("Qwen3VLMoeTextSparseMoeBlock",),
    ),
    "qwen3_5": QwenVL("Qwen3_5ForConditionalGeneration", "qwen3_vl", recurrent=_DELTA),
    "qwen3_5_moe": QwenVL(
        "Qwen3_5MoeForConditionalGeneration",
        "qwen3_vl",
        recurrent=_DELTA,
        sparse_blocks=("Qwen3_5MoeSparseMoeBlock",),
    ),
    "internvl": General("InternVLForConditionalGeneration", "internvl", packs=True),
    "gemma3": General("Gemma3ForConditionalGeneration"),
    "gemma4": General("Gemma4ForConditionalGeneration"),
    "glm4v": General("Glm4vForConditionalGeneration", packs=True, mrope=True),
    "smolvlm": General("SmolVLMForConditionalGeneration", packs=True, nests_images=True),
    "idefics3": General("Idefics3ForConditionalGeneration", packs=True, nests_images=True),
    "llava_onevision": General("LlavaOnevisionForConditionalGeneration", packs=True),
    "mistral3": General("Mistral3ForConditionalGeneration", packs=True),
}


def family_of(config: PretrainedConfig) -> Family:
    """The family of a loaded transformers config; ConfigError for any other model type."""
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"no vision-language policy for model_type {config.model_type!r}; "
            f"{did_you_mean(config.model_type, FAMILIES)}; docs/families.md shows how one is added"
        )
    return FAMILIES[config.model_type]
