"""Checkpoints that a kill cannot break: written aside, renamed when whole, then pointed at.

checkpoints/.saving-step-000020/     being written
checkpoints/step-000020/             whole
checkpoints/latest                   the name of the newest whole one
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vlrl.data.fields import shown
from vlrl.distributed.comm import World, all_gather
from vlrl.distributed.engine import Engine
from vlrl.errors import CheckpointError, ConfigError, first_line
from vlrl.train.integrity import verify_checksums, write_checksums

ENGINE_TAG = "deepspeed"
_NAME = re.compile(r"step-[0-9]{6,12}")


class TrainerState(BaseModel):
    """Where a run stands, the same on all ranks; `trainer.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: PositiveInt
    sampler: NonNegativeInt = 0
    """Draws of the prompt sampler so far."""
    version: NonNegativeInt = 0
    """Optimizer steps so far."""
    trainable_rewards: NonNegativeInt = 0
    num_ranks: PositiveInt
    zero: NonNegativeInt
    """ZeRO's stage."""
    precision: str | None = None
    fingerprint: str | None = None
    """Names and shapes of the trained weights; None where an earlier version saved it."""
    kernels: Mapping[str, str] = {}
    """What `Policy.pick_kernels` gave at the start."""
    frozen: str | None = None
    """Of the weights that are not trained, which a checkpoint lacks; None as above."""

    @classmethod
    def of(
        cls,
        engine: Engine,
        step: int,
        *,
        sampler: int = 0,
        version: int = 0,
        num_rewards: int = 0,
        kernels: Mapping[str, str] | None = None,
    ) -> TrainerState:
        """The state of a run on this engine."""
        return cls(
            step=step,
            sampler=sampler,
            version=version,
            trainable_rewards=num_rewards,
            num_ranks=engine.world.size,
            zero=engine.stage,
            precision=engine.precision,
            fingerprint=engine.fingerprint(),
            kernels=kernels or {},
            frozen=engine.frozen_fingerprint(),
        )


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep_last: int, world: World) -> None:
        self.folder = folder
        self.keep_last = keep_last
        self.world = world
        self.newest_step: int | None = None
        """Of the newest checkpoint that this process has written or read."""

    def save(
        self,
        engine: Engine,
        state: TrainerState,
        rewards: Sequence[Mapping[str, Any]],
        config_yaml: str,
    ) -> Path:
        """Write everything that a resumed run needs; all ranks call this.

        rewards: states of this rank's trainable rewards, tensors and plain values only. Raises
        CheckpointError where it cannot be written; what was saved before stays whole.
        """
        name = f"step-{state.step:06d}"
        aside = self.folder / f".saving-{name}"
        self._written(state.step, partial(self._begin, aside))
        self._written(state.step, partial(self._write_state, aside, engine, rewards))
        self._written(state.step, partial(self._write_texts, aside, state, config_yaml))
        self._written(state.step, partial(write_checksums, aside, self.world))
        self._written(state.step, partial(self._make_official, aside, self.folder / name))
        self.newest_step = state.step
        return self.folder / name

    def _written(self, step: int, work: Callable[[], None]) -> None:
        """A part of saving, done on all ranks; CheckpointError on all where one cannot write."""
        problem = None
        try:
            work()
        except (OSError, RuntimeError, SafetensorError) as error:
            # A full disk: torch says "unexpected pos", safetensors an error of its own.
            problem = f"{type(error).__name__}: {first_line(error)}"
        if told := [one for one in all_gather(problem, self.world) if one]:
            for left in self.folder.glob(".saving-*") if self.world.is_main else ():
                shutil.rmtree(left, ignore_errors=True)  # it would keep the disk full
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be written to {self.folder} "
                f"({told[0]}); is the disk full? Earlier checkpoints are whole"
            )

    def _begin(self, aside: Path) -> None:
        if self.world.is_main:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)

    def _write_texts(self, aside: Path, state: TrainerState, config_yaml: str) -> None:
        if self.world.is_main:
            (aside / "config.yaml").write_text(config_yaml, encoding="utf-8")
            (aside / "trainer.json").write_text(state.model_dump_json(indent=2), encoding="utf-8")

    def _make_official(self, aside: Path, final: Path) -> None:
        if self.world.is_main:
            _flush(aside)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(aside, final)
            self._point_at(final.name)
            self._prune(final)

    def _write_state(
        self, aside: Path, engine: Engine, rewards: Sequence[Mapping[str, Any]]
    ) -> None:
        # Frozen weights are those that the run starts from anyway.
        engine.engine.save_checkpoint(
            str(aside), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True
        )
        save_file(_rng_state(), aside / f"rng_rank{self.world.rank}.safetensors")
        if engine.average is not None:
            save_file(engine.average.state_dict(), aside / f"ema_rank{self.world.rank}.safetensors")
        torch.save(list(rewards), aside / f"rewards_rank{self.world.rank}.pt")

    def check_shared(self) -> None:
        """Raise ConfigError on all ranks where some do not see this folder: shards would be lost.

        Only trying tells whether it can be written and whether nodes share a file system.
        """
        name = all_gather(secrets.token_hex(8), self.world)[0]
        mark = self.folder / f".seen-{name}"
        problem = None
        if self.world.is_main:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                mark.touch()
            except OSError as error:
                problem = f"out: nothing can be written to {self.folder}: {error}"
        if problem := all_gather(problem, self.world)[0]:
            raise ConfigError(problem)
        # Listed, not looked up: a network file system remembers for a while what was not there.
        seen = self.folder.is_dir() and mark.name in os.listdir(self.folder)
        host = None if seen else platform.node()
        blind = sorted({one for one in all_gather(host, self.world) if one is not None})
        if self.world.is_main:
            mark.unlink()
        if blind:
            raise ConfigError(
                f"out: {self.folder} is not the same folder on {', '.join(blind)} as on rank 0's "
                "node; checkpoints hold a part of every rank, so all nodes must share `out`"
            )

    def latest(self) -> Path | None:
        """The newest whole checkpoint as rank 0 sees it; None in a fresh run."""
        found, problem = None, None
        try:
            found = self._latest() if self.world.is_main else None
        except (CheckpointError, OSError) as error:
            problem = str(error)
        found, problem = all_gather((found, problem), self.world)[0]
        if problem:
            raise CheckpointError(problem)
        return found

    def _latest(self) -> Path | None:
        pointer = self.folder / "latest"
        if not pointer.is_file():
            return None
        name = pointer.read_text(encoding="utf-8", errors="replace").strip()
        if not _NAME.fullmatch(name):
            raise CheckpointError(
                f"{pointer} is damaged: it holds {shown(name)}, not a checkpoint's name; write "
                "the newest one's into it, or give one by --resume FOLDER"
            )
        if not (self.folder / name / "trainer.json").is_file():
            raise CheckpointError(
                f"{pointer} names {name!r}, which is missing or incomplete: no trainer.json; "
                "resume from another checkpoint (--resume FOLDER)"
            )
        return self.folder / name

    def load(self, path: Path, engine: Engine) -> tuple[TrainerState, list[Mapping[str, Any]]]:
        """Restore engine and RNG; returns the trainer's state and the trainable rewards'.

        Every file is checked against its checksum before anything is loaded, and no code in a file
        is run. Raises CheckpointError where the checkpoint is damaged or of another set-up.
        """
        state = _read_state(path)
        verify_checksums(path, self.world)
        self._check_fits(path, state, engine)
        try:
            if not engine.load(str(path), ENGINE_TAG):
                raise CheckpointError(f"DeepSpeed found nothing to load in {path}")
            _set_rng_state(load_file(path / f"rng_rank{self.world.rank}.safetensors"))
            if engine.average is not None:
                saved = path / f"ema_rank{self.world.rank}.safetensors"
                if not saved.is_file():
                    raise CheckpointError(
                        f"{path} holds no running average of the weights (optim.ema_decay)"
                    )
                engine.average.load_state_dict(load_file(saved))
            mine = path / f"rewards_rank{self.world.rank}.pt"
            rewards = torch.load(mine, map_location="cpu", weights_only=True)
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, AssertionError,
                UnpicklingError, SafetensorError) as error:  # fmt: skip
            raise CheckpointError(
                f"{path} cannot be loaded ({type(error).__name__}: {first_line(error)}): it is "
                "damaged, or was not written by this run; resume from another checkpoint"
            ) from error
        self.newest_step = state.step
        return state, rewards

    def _check_fits(self, path: Path, state: TrainerState, engine: Engine) -> None:
        layout = {"num_ranks": self.world.size, "zero": engine.stage}
        for key, now in layout.items():
            saved = state.model_dump()[key]
            if saved != now:
                raise CheckpointError(
                    f"{path} was saved with {key} = {saved}, this run has {now}: "
                    "optimizer states are sharded, so a run resumes as it was laid out; "
                    "start a new run from the exported weights to change the layout"
                )
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
        if state.frozen is not None and state.frozen != engine.frozen_fingerprint():
            raise CheckpointError(
                f"{path} was saved with other frozen weights than this run has, which it does not "
                "hold itself: policy.model is another model, or its files were replaced; set it "
                "back"
            )

    def _point_at(self, name: str) -> None:
        aside = self.folder / ".latest"
        aside.write_text(name + "\n", encoding="utf-8")
        os.replace(aside, self.folder / "latest")

    def _prune(self, newest: Path) -> None:
        """Remove all but the last ones, counted back from the one that was just written.

        Those of later steps are of a course that was left by resuming from an earlier checkpoint.
        """
        reached = _step_of(newest)
        found = [path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)]
        whole = sorted(found, key=lambda path: (_step_of(path) <= reached, _step_of(path)))
        for old in whole[: -self.keep_last]:
            shutil.rmtree(old)
        for left in self.folder.glob(".saving-*"):
            shutil.rmtree(left)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _read_state(path: Path) -> TrainerState:
    """The trainer's state of a checkpoint; CheckpointError where it is damaged or nonsense."""
    file = path / "trainer.json"
    try:
        return TrainerState.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{file} is damaged or was edited ({first_line(error)}); resume from another checkpoint"
        ) from error


def _flush(folder: Path) -> None:
    """Have the files on disk before the rename makes them official."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _rng_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_rng_state(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
