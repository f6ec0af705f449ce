"""A vision-language checkpoint as a trainable model: weights, processor, LoRA, frozen parts."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import AutoProcessor, PretrainedConfig, PreTrainedModel

from vlrl.config.section import LoraSection
from vlrl.errors import ConfigError, VlrlError, first_line, why_not_loaded
from vlrl.families.adapters import (
    adapter_base,
    base_model,
    lora_named,
    refuse_second_adapter,
    with_adapter,
)
from vlrl.families.classes import transformers_class
from vlrl.families.config import config_of
from vlrl.families.control_tokens import control_tokens
from vlrl.families.family import vision_parameters
from vlrl.families.interfaces import VisionLanguageModel, VisionProcessor
from vlrl.families.known import family_of
from vlrl.families.reading import Reader
from vlrl.policy.vision_language import group_attention, vision_kernels
from vlrl.policy.vision_language.options import VisionLanguageConfig
from vlrl.policy.vision_language.packed import recurrent
from vlrl.policy.vision_language.quantized import quantization

if TYPE_CHECKING:
    from peft import PeftModel


log = logging.getLogger(__name__)

DROPOUTS = {"attention_dropout", "dropout_prob", "drop_prob"}
"""Attributes of layers that transformers passes to functions of dropout."""
NOT_ADAPTED = {"lm_head", "gate", "router", "shared_expert_gate"}
"""Heads and routers of experts: an adapter there changes which experts answer."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory."""

    model: PreTrainedModel | PeftModel
    reader: Reader
    shares_prompt: bool
    """Whether a group's prompt is encoded once."""


def load(
    options: VisionLanguageConfig,
    dtype: torch.dtype,
    *,
    checkpointing: bool,
    zero_stage: int = 0,
    loading: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Loaded:
    """Load a checkpoint from a folder or the hub; `loading` wraps the reading of its weights.

    Raises ConfigError for any other kind of model, and for damaged files.
    """
    refuse_second_adapter(options.model, options.lora)
    model: PreTrainedModel | PeftModel = load_model(options, dtype, loading, zero_stage)
    shares = shares_prompt(options, model.config)
    with model_named(options.model):
        processor = AutoProcessor.from_pretrained(options.model, revision=options.revision)
    reader = reader_of(processor, base_model(model), options.min_pixels, options.max_pixels)
    model = as_trained(model, options, checkpointing=checkpointing)
    return Loaded(model, reader, shares)


def reader_of(
    processor: VisionProcessor,
    core: VisionLanguageModel,
    min_pixels: int | None,
    max_pixels: int | None,
) -> Reader:
    """What turns messages into tensors for a model; pixel bounds: None = the family's own.

    Raises ConfigError for a bound that the family cannot keep.
    """
    check_min_pixels(min_pixels, core.config)
    family = family_of(core.config)
    low, high = family.pixel_bounds(processor)
    context = core.config.get_text_config().max_position_embeddings
    return Reader(
        family,
        processor,
        core,
        min_pixels or low,
        max_pixels or high,
        context,
        control_tokens(processor, core.config),
    )


def check_min_pixels(min_pixels: int | None, config: PretrainedConfig) -> None:
    """Raise ConfigError where the family cannot enlarge images up to a bound."""
    if min_pixels is not None and not family_of(config).takes_pixel_bounds:
        raise ConfigError(
            f"min_pixels must be left out for {config.model_type}: its processor has sizes of "
            "its own (max_pixels shrinks larger images before)"
        )


def as_trained(
    model: PreTrainedModel | PeftModel, options: VisionLanguageConfig, *, checkpointing: bool
) -> PreTrainedModel | PeftModel:
    """The model with its frozen parts, checkpointing and adapter."""
    if not options.train_vision:
        core: VisionLanguageModel = base_model(model)
        for _, parameter in vision_parameters(core):
            parameter.requires_grad_(False)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if options.lora is not None:
        model = add_lora(model, options.lora)
        if checkpointing:
            model.enable_input_require_grads()
    return model


def load_model(
    options: VisionLanguageConfig,
    dtype: torch.dtype,
    loading: Callable[[], AbstractContextManager[None]] = nullcontext,
    zero_stage: int = 0,
) -> PreTrainedModel:
    """The bare model in `dtype`, ready to train or to serve as the frozen reference."""
    config = read_config(options.model, options.revision)
    base = adapter_base(options.model)
    with model_named(options.model):
        attention = attention_of(options, config)
    packed: dict[str, Any] = {}
    if options.quantize is not None:
        packed["quantization_config"] = quantization(dtype, zero_stage)
    with model_named(options.model):
        family = family_of(config)
        model_class = transformers_class(family.model_class)
        # Merging an adapter reads whole weights.
        splits = base is None and not family.loads_whole
        with (
            attention_named(options.attn_implementation),
            loading() if splits else nullcontext(),
        ):
            model, info = model_class.from_pretrained(
                base or options.model,
                revision=options.revision,
                dtype=dtype,
                attn_implementation=attention,
                output_loading_info=True,
                **packed,
            )
        _forget_unused_renamings(model)
        check_whole(base or options.model, info)
        if base is not None:
            model = with_adapter(model, options.model)
    prepare(model)
    return model


def prepare(model: PreTrainedModel) -> None:
    """Switch a loaded model to the kernels that its family allows, its weights unchanged."""
    _without_dropout(model)
    family = family_of(model.config)
    if family.recurrent:
        recurrent.use_in(model, family.recurrent)
    if family.sparse_blocks:
        _gather_as_a_whole(model, family.sparse_blocks)
    tower = family.patch_tower(base_model(model))
    if tower is not None:
        vision_kernels.use_in(tower)


def _gather_as_a_whole(model: nn.Module, names: Sequence[str]) -> None:
    """Have ZeRO-3 gather all experts of a layer at once, whichever its tokens reach on a rank.

    A rank whose tokens miss an expert would otherwise wait for none of its weights, and hang the
    others (DeepSpeed#7461).
    """
    from deepspeed.utils import set_z3_leaf_modules

    found = {type(part) for part in model.modules() if type(part).__name__ in names}
    if found:
        set_z3_leaf_modules(model, sorted(found, key=lambda kind: kind.__name__))


def _without_dropout(model: nn.Module) -> None:
    """Switch dropout off, which some checkpoints' configs ask for: it breaks ratios of two passes.

    That of an adapter is the user's choice (`policy.lora.dropout`).
    """
    for part in model.modules():
        if isinstance(part, _DropoutNd):
            part.p = 0.0
        for name in DROPOUTS & part.__dict__.keys():
            setattr(part, name, 0.0)


def attention_of(options: VisionLanguageConfig, config: PretrainedConfig) -> Any:
    """transformers' `attn_implementation` for these options."""
    if not shares_prompt(options, config):
        return options.attn_implementation
    group_attention.register()
    return {"text_config": group_attention.NAME, "vision_config": options.attn_implementation}


def _forget_unused_renamings(model: PreTrainedModel) -> None:
    """Keep only the changes of weights' names that this checkpoint needed when it was read.

    An export undoes them. transformers keeps them all where it loads for ZeRO-3, and its export
    would then put a prefix before every name that no checkpoint has.
    """
    changes: Any = model._weight_conversions
    changes[:] = [change for change in changes if change.was_used()]


def read_config(model: str, revision: str | None) -> PretrainedConfig:
    """A checkpoint's own config.json; ConfigError if there is none, or one of an unknown type."""
    try:
        return config_of(adapter_base(model) or model, revision)
    except VlrlError:
        raise
    except Exception as error:  # a broken file: of many kinds
        raise ConfigError(
            f"policy.model {model!r}: {why_not_loaded(model, error)} "
            "(a run's model is in runs/<name>/model)"
        ) from error


@contextmanager
def model_named(model: str) -> Iterator[None]:
    """Turn every failure to load a checkpoint into a ConfigError that names it."""
    try:
        yield
    except VlrlError as error:
        if model in str(error) or not isinstance(error, ConfigError):
            raise
        raise ConfigError(f"policy.model {model!r}: {error}") from error
    except Exception as error:  # what broken files raise shares no base
        raise ConfigError(
            f"policy.model {model!r} cannot be loaded ({why_not_loaded(model, error)}); if one of "
            "its files is damaged, copy it again"
        ) from error


def check_whole(model: str, info: Mapping[str, Any]) -> None:
    """Raise ConfigError where transformers found no weights for a tensor: it would be random.

    info: what `from_pretrained(output_loading_info=True)` says.
    """
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ConfigError(
            f"policy.model {model!r} has no weights for {len(lacking)} tensors, {lacking[0]!r} "
            "first; a file of it is damaged or of another model: copy it again"
        )


@contextmanager
def attention_named(implementation: str) -> Iterator[None]:
    """Turn the failure to find an attention implementation into a ConfigError that names it."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if isinstance(error, ValueError) and "attn_implementation" not in str(error):
            raise
        raise ConfigError(
            f"policy.attn_implementation {implementation!r}: {first_line(error)} `sdpa` "
            "needs no package"
        ) from error


def shares_prompt(options: VisionLanguageConfig, config: PretrainedConfig) -> bool:
    """Whether a group's prompt is encoded once; with `auto` wherever that is exact.

    `flash_attention_2` then applies to the vision tower alone; the text model uses torch's own
    flash kernels where there are any (vlrl/policy/vision_language/packed/varlen.py). Raises
    ConfigError where it is asked for and would not be exact.
    """
    if options.share_prompt == "off":
        return False
    why = family_of(config).why_not_packed(config)
    if why is not None and options.share_prompt == "on":
        raise ConfigError(
            f"policy.share_prompt: on would be wrong for {options.model!r}: {why}; leave it out, "
            "and every answer's row holds its own prompt"
        )
    if why is not None:
        log.info("prompts are repeated for every answer (share_prompt): %s", why)
    return why is None


def tower_is_frozen(model: nn.Module) -> bool:
    """Whether nothing in the vision tower is trained, adapters included."""
    return not any(p.requires_grad for _, p in vision_parameters(base_model(model)))


def add_lora(model: nn.Module, lora: LoraSection) -> PeftModel:
    """A low-rank adapter on the named linear layers; all other weights are frozen.

    Raises ConfigError where no layer has such a name, or a layer takes no adapter.
    """
    from peft import LoraConfig, get_peft_model

    target = lora.target_modules or _language_layers(model)
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target if isinstance(target, str) else list(target),
        bias="none",
    )
    # An adapter's start depends on the run's seed alone, not on what loading has drawn before it,
    # which differs between ZeRO's stages.
    with lora_named(), torch.random.fork_rng():
        torch.manual_seed(torch.initial_seed())
        # Adapters in another dtype than the model's break ZeRO's flat buffers.
        return get_peft_model(model, settings, autocast_adapter_dtype=False)


def _language_layers(model: Any) -> str:
    """A regular expression for the linear layers of the language model."""
    decoder = model.get_decoder()
    path = next(name for name, part in model.named_modules() if part is decoder)
    ends = {
        name.rpartition(".")[2]
        for name, part in decoder.named_modules()
        if isinstance(part, nn.Linear)
    }
    return rf".*{re.escape(path)}\..*\.({'|'.join(sorted(ends - NOT_ADAPTED))})"
