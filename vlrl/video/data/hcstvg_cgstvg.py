"""HC-STVG as CG-STVG and TA-STVG read it: version 1's keys for both versions (`annos/hcstvg_v2/`).

Their first frame is st_frame - 1, their last one belongs to the tube; boxes that reach beyond the
image stop their preprocessing (here: `clip_px`). They leave out two damaged videos, which are
bad rows here: `on_bad_row: skip` leaves them out and lists them.
"""

from __future__ import annotations

from collections.abc import Callable

from vlrl.errors import DataError
from vlrl.video.data import hcstvg
from vlrl.video.data.video_rows import Entries, VideoRow, VideoSource

DAMAGED = ("10__Gvp-cj3bmIY.mp4", "1_aMYcLyh9OhU.mkv")


def entries(source: VideoSource) -> Entries:
    """The videos in the file's order, each with its place."""
    for where, checked in hcstvg.entries(source):
        damaged = next((name for name in DAMAGED if where.endswith(f"{name!r}")), None)
        yield where, checked if damaged is None else _refuse(where)


def _refuse(where: str) -> Callable[[], VideoRow]:
    def refuse() -> VideoRow:
        raise DataError(f"{where}: CG-STVG leaves this damaged video out (on_bad_row: skip)")

    return refuse
