"""A failure of one rank is raised by all of them, so that none waits for the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vlrl.distributed.comm import World, all_gather
from vlrl.errors import DataError, EngineError, RewardError

Result = TypeVar("Result")
Failure = TypeVar("Failure", bound=RewardError | DataError | EngineError)
FROM_OUTSIDE = (DataError, RewardError, EngineError)
"""Failures of what a run depends on; what it has learnt is saved before it ends."""


def on_all(work: Callable[[], Result], world: World) -> Result:
    """This rank's part of some work; where it fails on one rank, all raise."""
    problem: RewardError | DataError | EngineError | None = None
    try:
        result = work()
    except FROM_OUTSIDE as error:
        problem = error
    kind = None
    if problem is not None:
        number = next(i for i, kind in enumerate(FROM_OUTSIDE) if isinstance(problem, kind))
        kind = (number, str(problem))
    failures = [one for one in all_gather(kind, world) if one is not None]
    if not failures:
        return result
    # The same kind on every rank, since what follows a DataError is done by all of them.
    shared = FROM_OUTSIDE[max(number for number, _ in failures)]
    if isinstance(problem, shared):
        raise problem
    raise shared(f"on another rank: {failures[0][1]}") from problem


def after_saving(error: Failure, step: int) -> Failure:
    """The error with what its run has saved."""
    return type(error)(f"{error}. Stopped after step {step}, which is saved; go on with --resume")
