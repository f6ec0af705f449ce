"""Checkpoints that a kill cannot break: written aside, renamed when whole, then pointed at.

checkpoints/.saving-step-000020/     being written
checkpoints/step-000020/             whole
checkpoints/latest                   the name of the newest whole one
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vlrl.distributed.comm import World, all_gather, barrier
from vlrl.distributed.engine import Engine
from vlrl.errors import CheckpointError, ConfigError

ENGINE_TAG = "deepspeed"


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
        step: int,
        engine: Engine,
        state: Mapping[str, Any],
        rewards: Sequence[Mapping[str, Any]],
        config_yaml: str,
    ) -> Path:
        """Write everything that a resumed run needs; all ranks call this.

        state: JSON-like trainer state, the same on all ranks. rewards: states of this rank's
        trainable rewards, tensors and plain values only.
        """
        name = f"step-{step:06d}"
        aside, final = self.folder / f".saving-{name}", self.folder / name
        if self.world.is_main:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        barrier(self.world)
        # Frozen weights are those that the run starts from anyway.
        engine.engine.save_checkpoint(
            str(aside), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True
        )
        save_file(_rng_state(), aside / f"rng_rank{self.world.rank}.safetensors")
        if engine.average is not None:
            save_file(engine.average.state_dict(), aside / f"ema_rank{self.world.rank}.safetensors")
        torch.save(list(rewards), aside / f"rewards_rank{self.world.rank}.pt")
        barrier(self.world)
        if self.world.is_main:
            (aside / "config.yaml").write_text(config_yaml, encoding="utf-8")
            described = {**state, "step": step, "num_ranks": self.world.size, "zero": engine.stage}
            (aside / "trainer.json").write_text(json.dumps(described, indent=2), encoding="utf-8")
            _flush(aside)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(aside, final)
            self._point_at(name)
            self._prune()
        barrier(self.world)
        self.newest_step = step
        return final

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
        found = self._latest() if self.world.is_main else None
        return all_gather(found, self.world)[0]

    def _latest(self) -> Path | None:
        pointer = self.folder / "latest"
        if not pointer.is_file():
            return None
        path = self.folder / pointer.read_text(encoding="utf-8").strip()
        if not (path / "trainer.json").is_file():
            raise CheckpointError(f"{pointer} names {path.name!r}, which is missing or incomplete")
        return path

    def load(self, path: Path, engine: Engine) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
        """Restore engine and RNG; returns the trainer's state and the trainable rewards'."""
        described = _description(path)
        for key, now in (("num_ranks", self.world.size), ("zero", engine.stage)):
            if described[key] != now:
                raise CheckpointError(
                    f"{path} was saved with {key} = {described[key]}, this run has {now}: "
                    "optimizer states are sharded, so a run resumes as it was laid out; "
                    "start a new run from the exported weights to change the layout"
                )
        loaded, _ = engine.engine.load_checkpoint(
            str(path), tag=ENGINE_TAG, load_module_strict=False
        )
        if loaded is None:
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
        self.newest_step = int(described["step"])
        return described, rewards

    def _point_at(self, name: str) -> None:
        aside = self.folder / ".latest"
        aside.write_text(name + "\n", encoding="utf-8")
        os.replace(aside, self.folder / "latest")

    def _prune(self) -> None:
        whole = sorted(self.folder.glob("step-*"))
        for old in whole[: -self.keep_last]:
            shutil.rmtree(old)
        for left in self.folder.glob(".saving-*"):
            shutil.rmtree(left)


def _description(path: Path) -> dict[str, Any]:
    return json.loads((path / "trainer.json").read_text(encoding="utf-8"))


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
