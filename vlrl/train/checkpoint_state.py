"""Where a run stands, as its checkpoints say it: `trainer.json`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from vlrl.distributed.engine import Engine
from vlrl.errors import CheckpointError, first_line
from vlrl.train.curriculum.state import CurriculumState

log = logging.getLogger(__name__)


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
    data: str | None = None
    """Of the training samples, which the sampler's draws count; None as above."""
    curriculum: CurriculumState | None = None

    def has_same_data(self, now: str, place: str) -> bool:
        """Whether the run was saved with this data; a warning where it was not.

        now: its `data_fingerprint`; place: the key that names it.
        """
        if self.data is None or self.data == now:
            return True
        log.warning(
            "%s: not what the run was saved with (%s, now %s); the run goes on with what is there "
            "now", place, self.data, now,
        )  # fmt: skip
        return False

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
        data: str | None = None,
        curriculum: CurriculumState | None = None,
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
            data=data,
            curriculum=curriculum,
        )


def read_state(path: Path) -> TrainerState:
    """The trainer's state of a checkpoint; CheckpointError where it is damaged or nonsense."""
    file = path / "trainer.json"
    try:
        return TrainerState.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{file} is damaged or was edited ({first_line(error)}); resume from another checkpoint"
        ) from error


def data_fingerprint(ids: Iterable[str]) -> str:
    """How many samples there are, and which, in their order."""
    digest, num = hashlib.sha256(), 0
    for one in ids:
        num += 1
        digest.update(one.encode("utf-8", "surrogatepass") + b"\0")
    return f"{num} samples, {digest.hexdigest()[:16]}"
