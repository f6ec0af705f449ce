"""Writing a checkpoint's files on a thread, while the next step runs."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from pathlib import Path

from vlrl.distributed.comm import World, all_gather
from vlrl.distributed.safe_load import Files
from vlrl.errors import first_line
from vlrl.train.integrity import digest_of

SPARE = 1.5
"""Host memory that has to be free, as a multiple of the copy's size."""
_MEMORY = Path("/proc/meminfo")
_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


class Writer:
    """This rank's files of one checkpoint, on their way to the disk.

    It takes part in no collective: the main thread may be in one of the next step.
    """

    def __init__(self, files: Files, folder: Path) -> None:
        self.files, self.folder = files, folder
        self.digests: dict[str, str] = {}
        """SHA-256 by path within the folder, of what is written."""
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._write, name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def is_writing(self) -> bool:
        """Whether this rank's files are not all on the disk, or have not failed, yet."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Until the files are written."""
        self._thread.join()

    def _write(self) -> None:
        try:
            for path in list(self.files):
                self.files.pop(path)()  # each copy is freed once it is written
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                self.digests[str(path.relative_to(self.folder))] = digest_of(path)
        except Exception as error:  # a thread has nobody to raise to; `complete` does
            self.problem = f"{type(error).__name__}: {first_line(error)}"
        self.files.clear()


def fits_in_memory(num_bytes: float, world: World) -> bool:
    """Whether every node has memory to spare for its ranks' copies; the same on all ranks."""
    rows = all_gather((platform.node(), num_bytes, free_memory()), world)
    nodes = {name for name, _, _ in rows}
    return all(
        SPARE * sum(size for name, size, _ in rows if name == node)
        <= min(free for name, _, free in rows if name == node)
        for node in nodes
    )


def free_memory() -> int:
    """Bytes of the host's memory that this process may still take; 0 where that is not known."""
    try:
        rows = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
    with contextlib.suppress(OSError, ValueError):  # a container's own limit
        free = min(free, int(_LIMIT.read_text()) - int(_USED.read_text()))
    return max(0, free)
