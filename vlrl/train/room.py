"""Is there room on the disk for a checkpoint? Asked before one is written."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from vlrl.distributed.comm import World, all_gather, all_sum
from vlrl.distributed.engine import Engine
from vlrl.errors import CheckpointError

log = logging.getLogger(__name__)


class Room:
    """The size of a run's checkpoints beside what is free in their folder."""

    def __init__(self, folder: Path, keep_last: int, world: World) -> None:
        self.folder, self.keep_last, self.world = folder, keep_last, world
        self.measured: int | None = None
        """Bytes of the last checkpoint that was written or read."""

    def needed(self, engine: Engine) -> float:
        """Bytes of one checkpoint: the last one's, or what the engine's states will take."""
        estimate = all_sum([engine.state_bytes()], self.world)[0]
        return estimate if self.measured is None else float(self.measured)

    def free(self) -> int:
        """Bytes that every rank sees as free; folders may lie on disks of their own."""
        place = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        return min(all_gather(shutil.disk_usage(place).free, self.world))

    def warn(self, engine: Engine) -> None:
        """At the start: say so where the checkpoints that are kept will not fit."""
        needed, free = self.needed(engine), self.free()
        # While the next one is written, those before it are still there.
        more = self.keep_last + 1 - min(self.keep_last, len(list(self.folder.glob("step-*"))))
        if self.world.is_main and needed * more > free:
            log.warning(
                "%s has %s free, and checkpoints will need %s more: each takes %s (%d bytes), and "
                "up to %d lie there while one is written (keep_last + 1); free some, set another "
                "`out`, or keep fewer",
                self.folder, shown_bytes(free), shown_bytes(needed * more), shown_bytes(needed),
                int(needed), self.keep_last + 1,
            )  # fmt: skip

    def check_bytes(self, needed: float, what: str) -> None:
        """CheckpointError on all ranks where something else does not fit into the folder."""
        if needed > (free := self.free()):
            raise CheckpointError(
                f"{what} takes about {shown_bytes(needed)}, and {self.folder} has "
                f"{shown_bytes(free)} free; free some"
            )

    def check(self, engine: Engine, step: int) -> None:
        """Before writing: CheckpointError on all ranks where the next checkpoint does not fit."""
        needed, free = self.needed(engine), self.free()
        if needed > free:
            raise CheckpointError(
                f"the checkpoint of step {step} is not written: it takes about "
                f"{shown_bytes(needed)}, and {self.folder} has {shown_bytes(free)} free; free "
                "some and go on with --resume. Earlier checkpoints are whole"
            )

    def measure(self, checkpoint: Path) -> None:
        """Remember a checkpoint's size."""
        self.measured = self.size_of(checkpoint)

    def size_of(self, checkpoint: Path) -> int:
        """Bytes of its files, as the main rank sees them; all ranks call this."""
        files = checkpoint.rglob("*") if self.world.is_main else ()
        return all_gather(sum(f.stat().st_size for f in files if f.is_file()), self.world)[0]


def shown_bytes(num: float) -> str:
    """`12.3 GB`; at least one unit, in decimal ones, as disks are sold."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num < 1000:
            return f"{num:.0f} {unit}" if unit == "bytes" else f"{num:.1f} {unit}"
        num /= 1000
    return f"{num:.1f} TB"
