"""A Janus checkpoint in two parts: the trained one, which writes image tokens, and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import AutoProcessor, JanusForConditionalGeneration, JanusVQVAE

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.adapters import adapter_base, refuse_second_adapter, with_adapter
from vlrl.families.classes import transformers_class
from vlrl.families.interfaces import CodeDecoder, ImageWriterProcessor
from vlrl.policy.image_tokens.options import ImageTokensConfig
from vlrl.policy.vision_language.loading import (
    add_lora,
    attention_named,
    check_whole,
    model_named,
    read_config,
)

if TYPE_CHECKING:
    from peft import PeftModel

MODEL_CLASSES = {"janus": "JanusForConditionalGeneration"}
"""By the `model_type` in the checkpoint's config.json."""


@dataclass(frozen=True)
class Special:
    """Tokens that guidance needs."""

    pad: int
    kept: tuple[int, ...]
    """Begin of text and begin of image, which an unconditional prompt keeps."""


@dataclass
class LoadedImageModel:
    """A checkpoint in memory."""

    model: JanusForConditionalGeneration | PeftModel
    """Language model, generation embeddings, aligner and head, possibly with an adapter."""
    decoder: CodeDecoder
    """The VQ model, frozen, float32."""
    unused: dict[str, Tensor]
    """Weights needed only for export, on CPU: vision tower, aligner, language head."""
    processor: ImageWriterProcessor
    special: Special


def load_image_model(
    options: ImageTokensConfig, dtype: torch.dtype, *, checkpointing: bool
) -> LoadedImageModel:
    """Load a checkpoint from a folder or the hub; ConfigError for any other kind of model."""
    refuse_second_adapter(options.model, options.lora)
    model = _whole(options, dtype)
    with model_named(options.model):
        processor = AutoProcessor.from_pretrained(options.model, revision=options.revision)
    if not processor.chat_template:
        raise ConfigError(f"policy.model {options.model!r}: its processor has no chat template")
    special = _special(model, processor, options.model)
    _check_grid(model, options.model)
    decoder, unused = take_out(model)
    trained = as_trained(model, options, checkpointing=checkpointing)
    return LoadedImageModel(trained, decoder.float(), unused, processor, special)


def as_trained(
    model: JanusForConditionalGeneration, options: ImageTokensConfig, *, checkpointing: bool
) -> JanusForConditionalGeneration | PeftModel:
    """The model with its frozen parts, checkpointing and adapter."""
    _freeze_all_but_generation(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model if options.lora is None else add_lora(model, options.lora)


def load_generator(options: ImageTokensConfig, dtype: torch.dtype) -> JanusForConditionalGeneration:
    """Only the part that writes image tokens, to serve as the frozen reference."""
    model = _whole(options, dtype)
    take_out(model)
    return model.requires_grad_(False).eval()


def _whole(options: ImageTokensConfig, dtype: torch.dtype) -> JanusForConditionalGeneration:
    config = read_config(options.model, options.revision)
    if config.model_type not in MODEL_CLASSES:
        raise ConfigError(
            f"policy.model {options.model!r}: no image-token policy for model_type "
            f"{config.model_type!r}; {did_you_mean(config.model_type, MODEL_CLASSES)}"
        )
    base = adapter_base(options.model)
    with model_named(options.model), attention_named(options.attn_implementation):
        model, info = transformers_class(MODEL_CLASSES[config.model_type]).from_pretrained(
            base or options.model,
            revision=options.revision,
            dtype=dtype,
            attn_implementation=options.attn_implementation,
            output_loading_info=True,
        )
        check_whole(base or options.model, info)
        if base is not None:
            model = with_adapter(model, options.model)
    return model


def _special(
    model: JanusForConditionalGeneration, processor: ImageWriterProcessor, name: str
) -> Special:
    """The special tokens that the checkpoint's own `generate` uses.

    The begin of image comes from the tokenizer: transformers 5.23 drops the generation config's
    `generation_kwargs.boi_token_id` on loading.
    """
    config, tokenizer = model.generation_config, processor.tokenizer
    pad = _first(config.pad_token_id, tokenizer.pad_token_id)
    bos = _first(config.bos_token_id, tokenizer.bos_token_id)
    boi = tokenizer.convert_tokens_to_ids(processor.image_start_token)
    if pad is None or bos is None or boi is None:
        found = {"pad_token": pad, "bos_token": bos, "boi_token": boi}
        lacking = [key for key, value in found.items() if value is None]
        raise ConfigError(
            f"policy.model {name!r}: neither its generation_config.json nor its tokenizer states "
            f"{', '.join(lacking)}, which image generation needs"
        )
    return Special(pad, (bos, boi))


def _first(*ids: int | None) -> int | None:
    return next((i for i in ids if i is not None), None)


def _check_grid(model: JanusForConditionalGeneration, name: str) -> None:
    written = model.model.vision_model.config.num_image_tokens
    decoded = model.model.vqmodel.config.num_patches**2
    if written != decoded:
        raise ConfigError(
            f"policy.model {name!r}: vision_config.num_image_tokens is {written}, but its VQ "
            f"decoder takes {decoded} tokens"
        )


def take_out(model: JanusForConditionalGeneration) -> tuple[JanusVQVAE, dict[str, Tensor]]:
    """Remove the parts that writing image tokens does not use, so that they take no GPU memory.

    The language head stays if it shares its weight with the embeddings.
    """
    decoder = model.model.vqmodel.requires_grad_(False).eval()
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    places = {"model.vision_model": "vision_model", "model.aligner": "aligner"}
    unused: dict[str, Tensor] = {}
    for prefix, name in places.items():
        part = model.model.get_submodule(name)
        unused |= {f"{prefix}.{key}": value for key, value in part.state_dict().items()}
        delattr(model.model, name)
    if not tied:
        unused["lm_head.weight"] = model.lm_head.weight.detach()
        del model.lm_head
    del model.model.vqmodel
    return decoder, unused


def _freeze_all_but_generation(model: JanusForConditionalGeneration) -> None:
    model.requires_grad_(False)
    core = model.model
    parts = (
        core.language_model,
        core.generation_embeddings,
        core.generation_aligner,
        core.generation_head,
    )
    for part in parts:
        part.requires_grad_(True)
