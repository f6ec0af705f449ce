"""The families that vlrl trains, by `model_type`: one row each.

The model type is in the checkpoint's own config.json, so that renaming a folder changes nothing.
Pixel bounds and patch sizes come from the checkpoint's processor where it states them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.family import Family, LogitStep
from vlrl.families.general import General
from vlrl.families.granite import Granite4Vision, GraniteDocling
from vlrl.families.molmo import Molmo2
from vlrl.families.qwen_vl import QwenVL
from vlrl.families.side_by_side import Llama4
from vlrl.families.video_llava import VideoLlava

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_NESTED = (("pixel_values", 1), ("pixel_attention_mask", 1))
_DELTA = ("Qwen3_5GatedDeltaNet", "Qwen3_5MoeGatedDeltaNet")
_CAP: tuple[LogitStep, ...] = (("cap", "final_logit_softcapping"),)


def _minicpm(model_class: str, *, mrope: bool = False) -> General:
    """Qwen3.5's language model behind a tower whose patches lie along the last axis."""
    return General(
        model_class, packs=True, recurrent=_DELTA, mrope=mrope, axes=(("pixel_values", 3),)
    )


FAMILIES: dict[str, Family] = {
    "qwen2_vl": QwenVL("Qwen2VLForConditionalGeneration"),
    "qwen2_5_vl": QwenVL("Qwen2_5_VLForConditionalGeneration"),
    "qwen3_vl": QwenVL("Qwen3VLForConditionalGeneration"),
    "qwen3_vl_moe": QwenVL(
        "Qwen3VLMoeForConditionalGeneration",
        sparse_blocks=("Qwen3VLMoeTextSparseMoeBlock",), loads_whole=True,
    ),
    "qwen3_5": QwenVL("Qwen3_5ForConditionalGeneration", recurrent=_DELTA),
    "qwen3_5_moe": QwenVL(
        "Qwen3_5MoeForConditionalGeneration", recurrent=_DELTA,
        sparse_blocks=("Qwen3_5MoeSparseMoeBlock",),
    ),
    "internvl": General(
        "InternVLForConditionalGeneration", packs=True, reads_videos=True,
        frames_are_images=True,
    ),
    "gemma3": General("Gemma3ForConditionalGeneration"),
    "gemma4": General(
        "Gemma4ForConditionalGeneration", logits=_CAP, sparse_blocks=("Gemma4TextExperts",)
    ),
    "glm4v": General("Glm4vForConditionalGeneration", packs=True, mrope=True, reads_videos=True),
    "glm46v": General("Glm46VForConditionalGeneration", packs=True, mrope=True, reads_videos=True),
    "glm4v_moe": General(
        "Glm4vMoeForConditionalGeneration", packs=True, mrope=True, reads_videos=True,
        sparse_blocks=("Glm4vMoeTextMoE",),
    ),
    "smolvlm": General("SmolVLMForConditionalGeneration", packs=True, axes=_NESTED),
    "idefics3": General("Idefics3ForConditionalGeneration", packs=True, axes=_NESTED),
    "llava_onevision": General(
        "LlavaOnevisionForConditionalGeneration", packs=True, reads_videos=True
    ),
    "mistral3": General("Mistral3ForConditionalGeneration", packs=True),
    "kimi_k25": General(
        "Kimi_K25ForConditionalGeneration", sparse_blocks=("DeepseekV3MoE",)
    ),
    "minicpmv4_6": _minicpm("MiniCPMV4_6ForConditionalGeneration"),
    "minicpmv4_7": _minicpm("MiniCPMV4_7ForConditionalGeneration", mrope=True),
    "minicpm_ocr": _minicpm("MiniCPMOcrForConditionalGeneration"),
    "ovis2": General(
        "Ovis2ForConditionalGeneration", packs=True, also=("visual_indicator_features",)
    ),
    "aria": General("AriaForConditionalGeneration", sparse_blocks=("AriaTextMoELayer",)),
    "aya_vision": General("AyaVisionForConditionalGeneration"),
    "cohere2_vision": General("Cohere2VisionForConditionalGeneration"),
    "cohere_compass": QwenVL(
        "CohereCompassForConditionalGeneration", logits=(("times", "logit_scale"),),
        forbidden_tokens=(
            "<|IMAGE_PAD|>", "<|VIDEO_PAD|>", "<|VISION_START|>", "<|VISION_END|>",
        ),
    ),
    "deepseek_vl": General("DeepseekVLForConditionalGeneration", packs=True),
    "ernie4_5_vl_moe": General(
        "Ernie4_5_VLMoeForConditionalGeneration", mrope=True,
        sparse_blocks=("Ernie4_5_VLMoeMoeBlock",),
    ),
    "exaone4_5": General("Exaone4_5_ForConditionalGeneration", packs=True),
    "glm5_next": General("Glm5NextForConditionalGeneration", sparse_blocks=("Glm5NextTextMoE",)),
    "glm_ocr": General("GlmOcrForConditionalGeneration", packs=True, mrope=True),
    "idefics2": General("Idefics2ForConditionalGeneration", packs=True, axes=_NESTED),
    "lfm2_vl": General("Lfm2VlForConditionalGeneration"),
    "lfm3_vl": General("Lfm3VlForConditionalGeneration"),
    "lighton_ocr": General("LightOnOcrForConditionalGeneration", packs=True),
    "llava": General("LlavaForConditionalGeneration", packs=True),
    "llava_next": General("LlavaNextForConditionalGeneration", packs=True),
    "llava_next_video": General("LlavaNextVideoForConditionalGeneration", packs=True),
    "mistral_large4": General(
        "MistralLarge4ForConditionalGeneration", logits=_CAP,
        sparse_blocks=("MistralLarge4TextMoE",),
    ),
    "paddleocr_vl": General("PaddleOCRVLForConditionalGeneration", packs=True, mrope=True),
    "qianfan_ocr": General("QianfanOCRForConditionalGeneration", packs=True),
    "video_llama_3": General("VideoLlama3ForConditionalGeneration", packs=True),
    "vipllava": General("VipLlavaForConditionalGeneration", packs=True),
    "hunyuan_vl": General("HunYuanVLForConditionalGeneration", packs=True, mrope=True),
    "cosmos3_edge": General(
        "Cosmos3EdgeForConditionalGeneration", packs=True, mrope=True, reads_videos=True
    ),
    "muse_glimmer": General(
        "MuseGlimmerForConditionalGeneration", reads_videos=True,
        logits=(("times", "output_multiplier"), ("cap", "final_logit_softcapping")),
    ),
    "gemma4_unified": General(
        "Gemma4UnifiedForConditionalGeneration", logits=_CAP, reads_videos=True
    ),
    "step3p7": General(
        "Step3p7ForConditionalGeneration", sparse_blocks=("Step3p7SparseMoeBlock",)
    ),
    "qwen4_exp": QwenVL(
        "Qwen4ExpForConditionalGeneration", packs=False,
        sparse_blocks=("Qwen4ExpTextSparseMoeBlock",),
    ),
    "granite_docling": GraniteDocling(
        "GraniteDoclingForConditionalGeneration", packs=True, axes=_NESTED,
        logits=(("over", "logits_scaling"),),
    ),
    "granite4_vision": Granite4Vision(
        "Granite4VisionForConditionalGeneration", packs=True,
        logits=(("over", "logits_scaling"),),
    ),
    "glmga": General("Glm46VForConditionalGeneration", packs=True, mrope=True, reads_videos=True),
    "molmo2": Molmo2("Molmo2ForConditionalGeneration"),
    "video_llava": VideoLlava(
        "VideoLlavaForConditionalGeneration", packs=True, reads_videos=True
    ),
    "deepseek_vl_hybrid": General("DeepseekVLHybridForConditionalGeneration", packs=True),
    "hyperclovax_vision_v2": General(
        "HyperCLOVAXVisionV2ForConditionalGeneration", packs=True, reads_videos=True,
        logits=(("times", "logits_scaling"),),
    ),
    "muse_spark": General(
        "MuseSparkForConditionalGeneration", reads_videos=True,
        logits=(("times", "output_multiplier"), ("cap", "final_logit_softcapping")),
        sparse_blocks=("MuseSparkMoE",),
    ),
    "dots3_note": General(
        "Dots3NoteForConditionalGeneration", reads_videos=True,
        sparse_blocks=("Dots3NoteTextMoE", "Dots3NoteVisionMoE"),
    ),
    "cosmos3_omni": QwenVL("Cosmos3OmniForConditionalGeneration"),
    "inkling_mm_model": General(
        "InklingForConditionalGeneration", logits=(("cut", "unpadded_vocab_size"),),
        sparse_blocks=("InklingMoE",),
    ),
    "llama4": Llama4("Llama4ForConditionalGeneration", sparse_blocks=("Llama4TextMoe",)),
}  # fmt: skip
"""By model type; tests/families holds a tiny row of each."""


def family_of(config: PretrainedConfig) -> Family:
    """The family of a loaded transformers config; ConfigError for any other model type."""
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"no vision-language policy for model_type {config.model_type!r}; "
            f"{did_you_mean(config.model_type, FAMILIES)}; docs/families.md shows how one is added"
        )
    return FAMILIES[config.model_type]
