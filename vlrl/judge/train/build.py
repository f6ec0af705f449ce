"""From a config to a judge's trainer, and from a trained judge to a folder that can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlrl.config.loader import to_yaml
from vlrl.config.resolve import plain
from vlrl.distributed import comm
from vlrl.distributed.engine import Engine
from vlrl.errors import ConfigError, VlrlError, why_not_loaded, writing
from vlrl.families.adapters import merged
from vlrl.families.family import vision_parameters
from vlrl.families.known import family_of
from vlrl.judge.head import HEAD_FILE
from vlrl.judge.interfaces import Processor
from vlrl.judge.local import load_vlm
from vlrl.judge.module import JudgeModule
from vlrl.judge.question import write_template
from vlrl.judge.train.config import JudgeTrainConfig
from vlrl.judge.train.trainer import JudgeTrainer
from vlrl.log.sinks import open_sinks
from vlrl.policy.vision_language.loading import add_lora
from vlrl.tensor_files import exporting
from vlrl.train.checkpoint import Checkpoints
from vlrl.train.finished import mark_unfinished
from vlrl.train.finite import check_finite
from vlrl.train.lock import hold


def build_trainer(
    config: JudgeTrainConfig,
    *,
    resume: bool = False,
    prepare: Callable[[Any], None] = lambda core: None,
) -> JudgeTrainer:
    """The trainer of a run; `prepare` may change the model in memory before it is wrapped."""
    world = comm.init(config.dist.timeout_s, config.dist.num_threads)
    if config.batch_size % world.size:
        raise ConfigError(
            f"batch_size ({config.batch_size}) must be a multiple of the number of ranks "
            f"({world.size})"
        )
    folder = Path(config.out) / config.name
    checkpoints = Checkpoints(folder / "checkpoints", 2, world, config.save_beside_training)
    checkpoints.check_shared()
    lock = hold(folder, world)
    latest = checkpoints.latest()
    if latest is not None and not resume:
        raise ConfigError(f"{folder} already holds a run; add --resume, or set another `name`")
    torch.manual_seed(config.seed)
    module, processor = new_module(config)
    prepare(module.core)
    engine = Engine(module, config, world)
    resolved = plain(config)
    text = to_yaml(resolved)
    trainer = JudgeTrainer(config, text, world, folder, module, processor, engine, checkpoints)
    if latest is not None:
        trainer.resume(latest)
    if world.is_main:  # a resume that fails leaves the run's record as it was
        folder.mkdir(parents=True, exist_ok=True)
        mark_unfinished(folder)
        with writing(folder):
            (folder / "config.yaml").write_text(text, encoding="utf-8")
        trainer.sinks = open_sinks(config.log, folder, config.name, resolved, trainer.step)
    checkpoints.room.warn(engine)
    trainer.lock = lock
    trainer.saving.restart()
    return trainer


def new_module(config: JudgeTrainConfig) -> tuple[JudgeModule, Processor]:
    """The module that training starts from: weights, adapter, frozen parts, head."""
    dtype = torch.bfloat16 if config.dist.precision == "bf16" else torch.float32
    try:
        core, processor = load_vlm(config.model, dtype)
    except VlrlError:
        raise
    except Exception as error:  # what broken files raise shares no base
        raise ConfigError(
            f"model {config.model!r}: {why_not_loaded(config.model, error)}"
        ) from error
    if not family_of(core.config).lays_out_images:
        raise ConfigError(
            f"model {config.model!r}: train-judge trains Qwen's families, not "
            f"{core.config.model_type}; any family can be asked by yes_token"
        )
    if not config.train_vision:
        for _, parameter in vision_parameters(core):
            parameter.requires_grad_(False)
    if config.dist.gradient_checkpointing:
        core.gradient_checkpointing_enable({"use_reentrant": False})
    model = core
    if config.lora is not None:
        model = add_lora(core, config.lora)
        if config.dist.gradient_checkpointing:
            model.enable_input_require_grads()
    module = JudgeModule(model, head=config.kind == "bradley_terry")
    return module, processor


def export(trainer: JudgeTrainer) -> Path:
    """`model/`: merged weights, processor and template, ready for `use: yes_token`; all ranks call.

    With a head also head.safetensors, for `use: preference_head`.
    """
    folder = trainer.folder / "model"
    with trainer.engine.weights(trainer.folder) as weights:
        check_finite(weights, trainer.world)
        if trainer.world.is_main:
            _write(trainer.config, weights, folder)
    return folder


def _write(config: JudgeTrainConfig, weights: Mapping[str, Tensor], folder: Path) -> None:
    module, processor = new_module(config)
    tied = {name for name, _ in module.named_parameters()} - weights.keys()
    if tied:
        raise ConfigError(f"the trained module lacks {sorted(tied)[:3]}")
    module.load_state_dict(weights, strict=False)
    core = merged(module.model)
    with exporting(folder):
        core.save_pretrained(folder, safe_serialization=True)
        processor.save_pretrained(folder)
        write_template(folder, config.template, config.criteria)
        if module.head is not None:
            save_file(module.head.state_dict(), folder / HEAD_FILE)
