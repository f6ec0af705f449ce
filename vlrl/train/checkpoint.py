"""Checkpoints that a kill cannot break: written aside, renamed when whole, then pointed at.

checkpoints/.saving-step-000020/     being written
checkpoints/step-000020/             whole
checkpoints/latest                   the name of the newest whole one
"""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vlrl.data.fields import shown
from vlrl.distributed.comm import World, all_gather
from vlrl.distributed.engine import Engine
from vlrl.distributed.safe_load import Files, copied
from vlrl.errors import CheckpointError, ConfigError, first_line
from vlrl.train.beside import Writer, fits_in_memory
from vlrl.train.checkpoint_state import TrainerState, read_state
from vlrl.train.integrity import verify_checksums, write_checksums, write_known_checksums
from vlrl.train.layout import MARK, check_fits, is_another_layout, universal
from vlrl.train.room import Room

log = logging.getLogger(__name__)

Beside = Literal["auto", "on", "off"]
ENGINE_TAG = "deepspeed"
_NAME = re.compile(r"step-[0-9]{6,12}")


@dataclass(frozen=True)
class Pending:
    """A checkpoint that is being written beside training."""

    step: int
    writer: Writer

    def raise_problem(self) -> None:
        """Raise what went wrong on this rank's thread."""
        if self.writer.problem:
            raise OSError(self.writer.problem)


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep_last: int, world: World, beside: Beside = "off") -> None:
        self.folder = folder
        self.keep_last = keep_last
        self.world = world
        self.beside = beside
        self.room = Room(folder, keep_last, world)
        self.newest_step: int | None = None
        """Of the newest checkpoint that this process has written or read."""
        self._pending: Pending | None = None
        self._fits_beside: bool | None = None

    def save(
        self,
        engine: Engine,
        state: TrainerState,
        rewards: Sequence[Mapping[str, Any]],
        config_yaml: str,
        *,
        beside: bool = False,
    ) -> Path:
        """Write everything that a resumed run needs; all ranks call this.

        rewards: states of this rank's trainable rewards, tensors and plain values only. Raises
        CheckpointError where it cannot be written; what was saved before stays whole.
        beside: copy it and return, if `checkpoint.beside_training` has it so; `complete` follows.
        """
        self.finish()
        name = f"step-{state.step:06d}"
        aside = self.folder / f".saving-{name}"
        step = state.step
        self._written(step, self._clear)
        self.room.check(engine, step)
        self._written(step, partial(self._begin, aside))
        if beside and self._goes_beside(engine):
            self._written(step, partial(self._start, aside, step, engine, rewards))
            self._written(step, partial(self._write_texts, aside, state, config_yaml))
            return self.folder / name
        self._written(step, partial(self._write_state, aside, engine, rewards))
        self._written(step, partial(self._write_texts, aside, state, config_yaml))
        self._written(step, partial(write_checksums, aside, self.world))
        self._written(step, partial(self._make_official, aside, self.folder / name))
        self._is_saved(step)
        return self.folder / name

    @property
    def is_writing(self) -> bool:
        """Whether this rank still writes a checkpoint beside training."""
        return self._pending is not None and self._pending.writer.is_writing

    def complete(self) -> None:
        """Make official what was written beside training; all ranks, none of them still writing.

        Raises CheckpointError on all where one could not write it.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, aside = pending.step, pending.writer.folder
        self._written(step, pending.raise_problem)
        known: dict[str, str] = {}
        for part in all_gather(pending.writer.digests, self.world):
            known |= part
        self._written(step, partial(self._list, aside, known))
        final = self.folder / aside.name.removeprefix(".saving-")
        self._written(step, partial(self._make_official, aside, final))
        self._is_saved(step)

    def finish(self) -> None:
        """Wait for what is written beside training, and make it official; all ranks call this."""
        if self._pending is not None:
            self._pending.writer.wait()
            self.complete()

    def _is_saved(self, step: int) -> None:
        self.newest_step = step
        self.room.measure(self.folder / f"step-{step:06d}")

    def _goes_beside(self, engine: Engine) -> bool:
        if self._fits_beside is None:
            is_on = self.beside == "on"
            if self.beside == "auto" and engine.world.device.type != "cpu":
                is_on = fits_in_memory(engine.state_bytes(), self.world)
                if not is_on and self.world.is_main:
                    log.warning(
                        "checkpoints are written while training waits: the host has no memory to "
                        "spare for a copy (checkpoint.beside_training)"
                    )
            self._fits_beside = is_on
        return self._fits_beside

    def _written(self, step: int, work: Callable[[], None]) -> None:
        """A part of saving, done on all ranks; CheckpointError on all where one cannot write."""
        problem = None
        try:
            work()
        except (OSError, RuntimeError, SafetensorError) as error:
            # A full disk: torch says "unexpected pos", safetensors an error of its own.
            problem = f"{type(error).__name__}: {first_line(error)}"
        if told := [one for one in all_gather(problem, self.world) if one]:
            if self._pending is not None:
                self._pending.writer.wait()
                self._pending = None
            self._clear()  # it would keep the disk full
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be written to {self.folder} "
                f"({told[0]}); is the disk full? Earlier checkpoints are whole"
            )

    def _clear(self) -> None:
        """Remove what a kill or a failure has left half written."""
        for left in self.folder.glob(".saving-*") if self.world.is_main else ():
            shutil.rmtree(left, ignore_errors=True)

    def _begin(self, aside: Path) -> None:
        if self.world.is_main:
            aside.mkdir(parents=True)

    def _write_texts(self, aside: Path, state: TrainerState, config_yaml: str) -> None:
        if self.world.is_main:
            (aside / "config.yaml").write_text(config_yaml, encoding="utf-8")
            (aside / "trainer.json").write_text(state.model_dump_json(indent=2), encoding="utf-8")

    def _list(self, aside: Path, known: Mapping[str, str]) -> None:
        if self.world.is_main:
            write_known_checksums(aside, known)

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
        engine.save(str(aside), ENGINE_TAG)
        for write in self._own_files(aside, engine, rewards).values():
            write()

    def _start(
        self, aside: Path, step: int, engine: Engine, rewards: Sequence[Mapping[str, Any]]
    ) -> None:
        files = engine.copy_for_saving(str(aside), ENGINE_TAG)
        files |= self._own_files(aside, engine, copied(list(rewards)))
        self._pending = Pending(step, Writer(files, aside))

    def _own_files(
        self, aside: Path, engine: Engine, rewards: Sequence[Mapping[str, Any]]
    ) -> Files:
        """Of this rank: random state, average, rewards; to be written later or at once."""
        rank = self.world.rank
        files: Files = {}
        rng = aside / f"rng_rank{rank}.safetensors"
        files[rng] = partial(save_file, _rng_state(), rng)
        if engine.average is not None and (engine.stage == 3 or self.world.is_main):
            ema = aside / f"ema_rank{rank}.safetensors"  # below stage 3 all ranks hold the same
            files[ema] = partial(save_file, copied(engine.average.state_dict()), ema)
        learnt = aside / f"rewards_rank{rank}.pt"
        files[learnt] = partial(torch.save, list(rewards), learnt)
        return files

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

    def load(
        self, path: Path, engine: Engine
    ) -> tuple[TrainerState, list[Sequence[Mapping[str, Any]]]]:
        """Restore engine and RNG; returns the trainer's state and the trainable rewards'.

        Those are this rank's alone, or those of all ranks of a run on another number of them.
        Every file is checked against its checksum before anything is loaded, and no code in a file
        is run. Raises CheckpointError where the checkpoint is damaged or of another set-up.
        """
        state = read_state(path)
        verify_checksums(path, self.world)
        check_fits(path, state, engine)
        # At stage 0 nothing is divided, and DeepSpeed's own files fit any number of ranks.
        converts = is_another_layout(state, engine) and state.zero > 0
        source = universal(path, self.folder, self.room, self.world) if converts else path
        # Of another number of ranks, each goes on as one of them; further ones share theirs.
        rank, num = self.world.rank % state.num_ranks, state.num_ranks
        try:
            if not engine.load(str(source), ENGINE_TAG, universal=converts):
                raise CheckpointError(f"DeepSpeed found nothing to load in {source}")
            _set_rng_state(load_file(path / f"rng_rank{rank}.safetensors"))
            self._load_average(path, state, engine)
            rewards = [
                torch.load(path / f"rewards_rank{r}.pt", map_location="cpu", weights_only=True)
                for r in ([rank] if num == self.world.size else range(num))
            ]
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, AssertionError,
                UnpicklingError, SafetensorError) as error:  # fmt: skip
            raise CheckpointError(
                f"{path} cannot be loaded ({type(error).__name__}: {first_line(error)}): it is "
                "damaged, or was not written by this run; resume from another checkpoint"
            ) from error
        self.newest_step = state.step
        self.room.measure(path)
        return state, rewards

    def _load_average(self, path: Path, state: TrainerState, engine: Engine) -> None:
        if engine.average is None:
            return
        files = [path / f"ema_rank{r}.safetensors" for r in range(state.num_ranks)]
        if not files[0].is_file():
            raise CheckpointError(
                f"{path} holds no running average of the weights (optim.ema_decay)"
            )
        if engine.stage < 3:
            engine.average.load_state_dict(load_file(files[0]))
        elif state.num_ranks == self.world.size:
            engine.average.load_state_dict(load_file(files[self.world.rank]))
        else:
            parts = [load_file(file) for file in files]
            engine.average.load_sharded(parts, self.world.rank, self.world.size)

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
        for left in (*self.folder.glob(".saving-*"), *self.folder.glob(f"{MARK}*")):
            shutil.rmtree(left)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


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
