"""When a run saves: every so many minutes, and when it is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vlrl.distributed.comm import World
from vlrl.errors import NonFiniteError, StoppedError
from vlrl.train.checkpoint import Checkpoints
from vlrl.train.stopping import StopRequest


class Saving:
    """What all ranks decide together at the end of a step, in one small collective."""

    def __init__(
        self,
        every_minutes: float,
        checkpoints: Checkpoints,
        world: World,
        save: Callable[[], None],
    ) -> None:
        """save: writes a checkpoint of the current step, and waits for it."""
        self.every_s = 60 * every_minutes
        self.checkpoints, self.world, self.save = checkpoints, world, save
        self.since_s = time.monotonic()
        """Start of the run, or the last checkpoint's, on this rank's clock."""

    def restart(self) -> None:
        """A checkpoint was written, or the run has begun."""
        self.since_s = time.monotonic()

    @property
    def _is_due(self) -> bool:
        """The main rank's clock is the run's."""
        waited_s = time.monotonic() - self.since_s
        return self.world.is_main and 0 < self.every_s <= waited_s

    def save_step(self, step: int) -> None:
        """Save a step that is not saved yet; step 0 has nothing to save."""
        self.checkpoints.finish()
        if step and self.checkpoints.newest_step != step:
            self.save()

    def check(self, stop: StopRequest, step: int) -> None:
        """Raise StoppedError on all ranks where any was asked to stop; saves nothing."""
        (number,) = stop.agreed(self.world)
        if number:
            raise StoppedError(number, step)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Around the steps: what is written beside them is made official at their end."""
        try:
            yield
        except NonFiniteError:  # on all ranks alike
            self.checkpoints.finish()
            raise
        self.checkpoints.finish()

    def end_step(self, stop: StopRequest, step: int, *, stops: bool = True) -> bool:
        """Whether a checkpoint is due by the clock; StoppedError where the run is to stop.

        What was written beside training is made official once no rank is writing. stops: whether
        the run ends here where it was asked to, after the step is saved.
        """
        number, is_due, is_writing = stop.agreed(
            self.world, self._is_due, self.checkpoints.is_writing
        )
        if not is_writing:
            self.checkpoints.complete()
        if number and stops:
            self.save_step(step)
            raise StoppedError(number, step)
        return bool(is_due)
