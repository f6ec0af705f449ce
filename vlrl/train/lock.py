"""One process per run folder: two runs in one folder would mix their lines."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import weakref
from pathlib import Path
from typing import TextIO

from vlrl.distributed.comm import World, all_gather
from vlrl.errors import ConfigError

log = logging.getLogger(__name__)

FILE = ".lock"
_HELD: dict[Path, RunLock] = {}
"""Of this process, which may end one run and begin another in the same folder."""


def hold(folder: Path, world: World) -> RunLock:
    """The folder's lock, held by the main rank; ConfigError on all ranks where it is taken."""
    lock, problem = RunLock(folder), None
    if world.is_main:
        try:
            lock.acquire()
        except ConfigError as error:
            problem = str(error)
    if problem := all_gather(problem, world)[0]:
        raise ConfigError(problem)
    return lock


class RunLock:
    """Held from `acquire` to the end of the process, however that comes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Raises ConfigError that names the process that holds the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if earlier := _HELD.pop(self.path.resolve(), None):
            earlier.release()
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise ConfigError(
                f"{self.path.parent} is in use by {holder}; wait for it, stop it, or set another "
                "`name` or `out`"
            ) from None
        except OSError as error:
            # A file system without locks, as some that are mounted over a network.
            log.warning("%s cannot be locked (%s): see to it that only one run writes there",
                        self.path.parent, error)  # fmt: skip
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        self._file = file
        weakref.finalize(self, file.close)
        _HELD[self.path.resolve()] = self

    def release(self) -> None:
        """Let another process have the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None
