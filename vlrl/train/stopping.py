"""Stopping a run from outside: the step is finished, saved, and the run goes on with --resume.

SIGTERM, SIGUSR1 (what Slurm can send before it preempts a job) and SIGINT (Ctrl-C) ask for it; a
second one ends the process at once. So does the death of the launcher: `deepspeed` does not pass a
SIGTERM on, and its ranks would train on without it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlrl.distributed.comm import World

POLITE = (signal.SIGTERM, signal.SIGUSR1)
"""After these the run ends with status 0: a scheduler takes its machine back."""
SIGNALS = (*POLITE, signal.SIGINT)
TWICE_S = 2.0
"""A signal that follows another one within this time is the same request: a scheduler signals the
whole job, and `torchrun` passes its own one on to its ranks as well."""


class StopRequest:
    """Whether this process was asked to stop; use it as a context around a training.

    Before the training, `signals` leaves Ctrl-C alone, which then ends the process at once; what
    came until then is `earlier`.
    """

    def __init__(
        self,
        *,
        is_main: bool,
        signals: Sequence[signal.Signals] = SIGNALS,
        earlier: StopRequest | None = None,
    ) -> None:
        self.is_main, self.signals = is_main, signals
        self.number: int | None = None if earlier is None else earlier.number
        """The signal that came; SIGTERM where the launcher has gone."""
        self._came_s: float = 0.0 if earlier is None else earlier._came_s
        self._before: dict[int, signal.Handlers | int | None] = {}
        self._ancestors: tuple[int, int] = _ancestors() if earlier is None else earlier._ancestors

    def __enter__(self) -> StopRequest:
        try:
            for number in self.signals:
                self._before[number] = signal.signal(number, self._handle)  # type: ignore[assignment]
        except ValueError:
            pass  # not the main thread (a notebook's worker): signals are not ours to take
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            if time.monotonic() - self._came_s > TWICE_S:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.number, self._came_s = number, time.monotonic()
        if self.is_main:
            # Not `print`: the signal may have come in the middle of one.
            os.write(
                sys.__stderr__.fileno() if sys.__stderr__ is not None else 2,
                b"stopping: this step is finished and saved first; once more to end at once\n",
            )

    @property
    def is_asked(self) -> bool:
        """Whether to stop after this step, as far as this process knows."""
        if self.number is None and _ancestors() != self._ancestors:
            self.number = signal.SIGTERM
        return self.number is not None

    def agreed(self, world: World, *more: bool) -> tuple[int, ...]:
        """The signal for which to stop, the same on all ranks, 0 = none; one collective.

        more: answers that are 1 on all ranks where they are true on any; they share it.
        """
        from vlrl.distributed.comm import each_max

        own = self.number if self.is_asked and self.number is not None else 0
        return tuple(int(value) for value in each_max([own, *more], world))


def _ancestors() -> tuple[int, int]:
    """Parent and grandparent; another one's place is taken by init when it dies."""
    parent = os.getppid()
    try:
        # "pid (name) state ppid ...": the name may hold spaces and brackets.
        stat = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace")
        return parent, int(stat.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return parent, 0
