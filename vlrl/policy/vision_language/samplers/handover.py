"""Folders in which weights are handed to an engine; none outlives its process for long."""

from __future__ import annotations

import atexit
import fcntl
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "vlrl-engine-"
YOUNG_S = 60.0
"""A folder that is newer may belong to a process that has not locked it yet."""


def handover(base: str | None) -> Path:
    """A new folder, removed when the process ends; base: where, None = /tmp.

    Those of this machine's processes that were killed, which could remove nothing, are removed
    first; of another machine's, locks may not tell.
    """
    parent, own = Path(base or tempfile.gettempdir()), f"{PREFIX}{platform.node()}-"
    for old in parent.iterdir():
        if old.name.startswith(own):
            _remove_if_left(old)
    folder = Path(tempfile.mkdtemp(prefix=own, dir=parent))
    _locked(folder)  # until this process ends, however that comes
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that no process holds; where that cannot be told, it stays."""
    try:
        is_old = time.time() - folder.stat().st_mtime > YOUNG_S
        lock = _locked(folder) if is_old else None
    except OSError:  # it is gone, or another user's
        return
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """An open and locked descriptor; None where another one has it or there are no locks."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
