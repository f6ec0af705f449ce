"""Stopping a run from outside: the step is finished, saved, and the run goes on with --resume.

SIGTERM and SIGINT (Ctrl-C) ask for it; a second one ends the process at once. So does the death of
the launcher: `deepspeed` does not pass a SIGTERM on, and its ranks would train on without it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from vlrl.distributed.comm import World, all_max

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether this process was asked to stop; use it as a context around a training."""

    def __init__(self, *, is_main: bool) -> None:
        self.is_main = is_main
        self.number: int | None = None
        """The signal that came; SIGTERM where the launcher has gone."""
        self._before: dict[int, signal.Handlers | int | None] = {}
        self._ancestors = _ancestors()

    def __enter__(self) -> StopRequest:
        try:
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)  # type: ignore[assignment]
        except ValueError:
            pass  # not the main thread (a notebook's worker): signals are not ours to take
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.number = number
        if self.is_main:
            print(
                "stopping: this step is finished and saved first; once more to end at once",
                file=sys.stderr,
                flush=True,
            )

    @property
    def is_asked(self) -> bool:
        """Whether to stop after this step, as far as this process knows."""
        if self.number is None and _ancestors() != self._ancestors:
            self.number = signal.SIGTERM
        return self.number is not None

    def agreed(self, world: World) -> int:
        """The signal for which to stop after this step, the same on all ranks; 0 = none."""
        own = self.number if self.is_asked and self.number is not None else 0
        return int(all_max(own, world))


def _ancestors() -> tuple[int, int]:
    """Parent and grandparent; another one's place is taken by init when it dies."""
    parent = os.getppid()
    try:
        # "pid (name) state ppid ...": the name may hold spaces and brackets.
        stat = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace")
        return parent, int(stat.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return parent, 0
