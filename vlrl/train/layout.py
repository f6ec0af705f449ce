"""Whether a checkpoint fits this run, and how one of another number of ranks is made to.

checkpoints/step-000020/                    saved by two ranks, say
checkpoints/.universal-step-000020-1a2b.../ the same, as any number of ranks can load it; removed
                                            at the next checkpoint
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from vlrl.distributed.comm import World, all_gather
from vlrl.distributed.engine import FROZEN, Engine
from vlrl.distributed.universal import convert
from vlrl.errors import CheckpointError, first_line
from vlrl.train import integrity
from vlrl.train.checkpoint_state import TrainerState
from vlrl.train.room import Room

log = logging.getLogger(__name__)

MARK = ".universal-"
FIXED = 0, 3
"""Stages whose states DeepSpeed cannot load at another stage."""


def check_fits(path: Path, state: TrainerState, engine: Engine) -> None:
    """Raise CheckpointError where the checkpoint is of another run than the engine's."""
    _check_layout(path, state, engine)
    if state.precision is not None and state.precision != engine.precision:
        raise CheckpointError(
            f"{path} was saved with dist.precision: {state.precision}, this run has "
            f"{engine.precision}; set it back"
        )
    if state.fingerprint is not None and state.fingerprint != engine.fingerprint():
        raise CheckpointError(
            f"{path} was saved with other trainable weights than this run has: another model, "
            "policy.lora or policy.train_vision; set them back, or start a new run from the "
            "exported weights"
        )
    frozen = engine.frozen_fingerprint()
    if state.frozen is not None and state.frozen.startswith(FROZEN) and state.frozen != frozen:
        raise CheckpointError(
            f"{path} was saved with other frozen weights than this run has, which it does not "
            "hold itself: policy.model is another model, or its files were replaced; set it "
            "back"
        )


def _check_layout(path: Path, state: TrainerState, engine: Engine) -> None:
    if state.zero != engine.stage and (state.zero in FIXED or engine.stage in FIXED):
        raise CheckpointError(
            f"{path} was saved at ZeRO stage {state.zero}, this run has stage {engine.stage}, and "
            f"DeepSpeed cannot load the one into the other: set dist.deepspeed back to stage "
            f"{state.zero}; or export the weights there (num_steps={state.step}, --resume) and "
            "start a new run from them (policy.model=.../model)"
        )
    if not is_another_layout(state, engine):
        return
    if not (path / integrity.FILE).is_file():
        raise CheckpointError(
            f"{path} was saved by {state.num_ranks} ranks at ZeRO stage {state.zero} and has no "
            f"checksums (an earlier version saved it): it is loaded as it was saved only; resume "
            f"with {state.num_ranks} ranks at that stage, and once more from the checkpoint then"
        )
    if state.zero == 0 and engine.precision == "bf16":
        raise CheckpointError(
            f"{path} was saved by {state.num_ranks} ranks, this run has {engine.world.size}: at "
            "ZeRO stage 0 in bf16 DeepSpeed loads it on as many only; resume with "
            f"{state.num_ranks} ranks, and use stage 1 in new runs"
        )


def is_another_layout(state: TrainerState, engine: Engine) -> bool:
    """Whether the states were divided in another way than the engine divides them."""
    return (state.num_ranks, state.zero) != (engine.world.size, engine.stage)


def universal(path: Path, folder: Path, room: Room, world: World) -> Path:
    """The universal form of a verified checkpoint, made where it is not there; all ranks call this.

    folder: of this run's checkpoints, in which it is kept until the next one is written.
    """
    name = f"{MARK}{path.resolve().name}-{integrity.digest_of(path / integrity.FILE)[:16]}"
    made, aside = folder / name, folder / f".saving-{name}"
    if all_gather(made.is_dir(), world)[0]:
        integrity.verify_checksums(made, world)
        return made
    room.check_bytes(2 * room.size_of(path), f"the conversion of {path}")
    problem = None
    if world.is_main:
        log.warning("%s was saved in another layout: it is converted first", path)
        try:
            shutil.rmtree(aside, ignore_errors=True)
            convert(path / "deepspeed", aside / "deepspeed")
        except Exception as error:  # of DeepSpeed's and the disk's, which share no base
            problem = f"{type(error).__name__}: {first_line(error)}"
    if problem := all_gather(problem, world)[0]:
        if world.is_main:
            shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"{path} cannot be converted for {world.size} ranks ({problem}); resume with the "
            "number of ranks and the ZeRO stage that it was saved with"
        )
    integrity.write_checksums(aside, world)
    if world.is_main:
        os.rename(aside, made)
    all_gather(None, world)  # nobody reads before it is there
    return made
