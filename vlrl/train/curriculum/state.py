"""Where a run stands in its curriculum, as its checkpoints say it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from vlrl.train.curriculum.exits import ExitState


class CurriculumState(BaseModel):
    """Where a run stands in its curriculum, the same on all ranks."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    stage: str
    start: NonNegativeInt
    """Draws of the run before the stage."""
    exit: ExitState
    success: dict[str, float] = {}
    """Running means of an adaptive stage, by sample id."""
