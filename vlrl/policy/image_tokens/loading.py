"""A Janus checkpoint in two parts: what writes image tokens and is trained, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from vlrl.errors import ConfigError, did_you_mean
from vlrl.policy.image_tokens.options import ImageTokensConfig
from vlrl.policy.vision_language.loading import add_lora, attention_named, read_config

MODEL_CLASSES = {"janus": "JanusForConditionalGeneration"}
"""By the `model_type` in the checkpoint's config.json."""


@dataclass(frozen=True)
class Special:
    """Tokens that guidance needs."""

    pad: int
    kept: tuple[int, ...]
    """Begin of text and begin of image: what an unconditional prompt still says."""


@dataclass
class LoadedImageModel:
    """A checkpoint in memory."""

    model: Any
    """Language model, generation embeddings, aligner and head, perhaps with an adapter."""
    decoder: nn.Module
    """The VQ model, frozen, float32."""
    unused: dict[str, Tensor]
    """Weights that only an export needs, on CPU: vision tower, aligner, language head."""
    processor: Any
    special: Special


def load_image_model(
    options: ImageTokensConfig, dtype: torch.dtype, *, checkpointing: bool
) -> LoadedImageModel:
    """Load a checkpoint from a folder or the hub; ConfigError where it is no such model."""
    model = _whole(options, dtype)
    processor = transformers.AutoProcessor.from_pretrained(options.model, revision=options.revision)
    if not getattr(processor, "chat_template", None):
        raise ConfigError(f"policy.model {options.model!r}: its processor has no chat template")
    special = _special(model, processor, options.model)
    _check_grid(model.config, options.model)
    decoder, unused = _take_out(model)
    _freeze_all_but_generation(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if options.lora is not None:
        model = add_lora(model, options.lora)
    return LoadedImageModel(model, decoder.float(), unused, processor, special)


def load_generator(options: ImageTokensConfig, dtype: torch.dtype) -> Any:
    """The part that writes image tokens alone, to serve as the frozen reference."""
    model = _whole(options, dtype)
    _take_out(model)
    return model.requires_grad_(False).eval()


def _whole(options: ImageTokensConfig, dtype: torch.dtype) -> Any:
    config = read_config(options.model, options.revision)
    if config.model_type not in MODEL_CLASSES:
        raise ConfigError(
            f"policy.model {options.model!r}: no image-token policy for model_type "
            f"{config.model_type!r}; {did_you_mean(config.model_type, MODEL_CLASSES)}"
        )
    with attention_named(options.attn_implementation):
        return getattr(transformers, MODEL_CLASSES[config.model_type]).from_pretrained(
            options.model,
            revision=options.revision,
            dtype=dtype,
            attn_implementation=options.attn_implementation,
        )


def _special(model: Any, processor: Any, name: str) -> Special:
    """The tokens that the checkpoint's own `generate` uses.

    The begin of image comes from the tokenizer: transformers 5.23 drops the generation config's
    own `generation_kwargs.boi_token_id` on loading.
    """
    config, tokenizer = model.generation_config, processor.tokenizer
    found = {
        "pad_token": _first(config.pad_token_id, tokenizer.pad_token_id),
        "bos_token": _first(config.bos_token_id, tokenizer.bos_token_id),
        "boi_token": tokenizer.convert_tokens_to_ids(processor.image_start_token),
    }
    lacking = [key for key, value in found.items() if value is None]
    if lacking:
        raise ConfigError(
            f"policy.model {name!r}: neither its generation_config.json nor its tokenizer states "
            f"{', '.join(lacking)}, which image generation needs"
        )
    return Special(int(found["pad_token"]), (int(found["bos_token"]), int(found["boi_token"])))


def _first(*ids: int | None) -> Any:
    return next((i for i in ids if i is not None), None)


def _check_grid(config: Any, name: str) -> None:
    written, decoded = config.vision_config.num_image_tokens, config.vq_config.num_patches**2
    if written != decoded:
        raise ConfigError(
            f"policy.model {name!r}: vision_config.num_image_tokens is {written}, but its VQ "
            f"decoder takes {decoded} tokens"
        )


def _take_out(model: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """Take out what writing image tokens never runs, so that no GPU holds it.

    The language head stays where it is the embeddings' own weight.
    """
    decoder = model.model.vqmodel.requires_grad_(False).eval()
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    places = {"model.vision_model": "vision_model", "model.aligner": "aligner"}
    unused: dict[str, Tensor] = {}
    for prefix, name in places.items():
        part = getattr(model.model, name)
        unused |= {f"{prefix}.{key}": value for key, value in part.state_dict().items()}
        delattr(model.model, name)
    if not tied:
        unused["lm_head.weight"] = model.lm_head.weight.detach()
        del model.lm_head
    del model.model.vqmodel
    return decoder, unused


def _freeze_all_but_generation(model: Any) -> None:
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
