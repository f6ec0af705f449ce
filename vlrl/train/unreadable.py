"""Samples that turn out to be unreadable in mid-run: left out, counted and listed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from vlrl.data.json_file import whole_lines
from vlrl.distributed.comm import World, all_gather
from vlrl.errors import DataError, writing

log = logging.getLogger(__name__)
FILE = "unreadable.jsonl"


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Shown = TypeVar("Shown", bound=_HasId)
"""A sample, or a judge's pair."""


class Unreadable(Generic[Shown]):
    """What a run leaves out, by id; the same on every rank."""

    def __init__(self, check: Callable[[Shown], None], world: World, folder: Path) -> None:
        """check: raises DataError where a sample cannot be made into a prompt."""
        self.check, self.world = check, world
        self.file = folder / FILE
        self.reasons: dict[str, str] = {}

    def first_readable(self, samples: Sequence[Shown]) -> Shown:
        """The first sample that can be read; raises DataError where none can."""
        for sample in samples:
            if sample.id not in self.reasons and self._why(sample) is None:
                return sample
        raise DataError(f"none of {len(samples)} samples can be read")

    def _why(self, sample: Shown) -> str | None:
        """Why a sample cannot be made into a prompt; None where it can."""
        try:
            self.check(sample)
        except DataError as error:
            return str(error)
        return None

    def find(self, samples: Sequence[Shown]) -> set[str]:
        """Ids of the samples of any rank that cannot be made into a prompt; all ranks call this.

        All are listed in `unreadable.jsonl` in the run's folder.
        """
        mine = {one.id: why for one in samples if (why := self._why(one)) is not None}
        found = {id_: why for part in all_gather(mine, self.world) for id_, why in part.items()}
        new = {id_: why for id_, why in sorted(found.items()) if id_ not in self.reasons}
        self.reasons |= new
        if self.world.is_main and new:
            for why in new.values():
                log.warning("left out from here on (on_bad_row: skip): %s", why)
            rows = [{"id": id_, "error": why} for id_, why in self.reasons.items()]
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            with writing(self.file):
                self.file.write_text("".join(lines), encoding="utf-8")
        return set(found)

    def find_again(self, samples: Sequence[Shown]) -> set[str]:
        """Ids of those that the run has listed before it was stopped, and that are still so."""
        listed: set[str] = set()
        if self.world.is_main and self.file.is_file():
            for line in whole_lines(self.file):
                # A line that is damaged costs nothing: its sample is found again when it is drawn.
                with suppress(ValueError, LookupError, TypeError, RecursionError):
                    listed.add(json.loads(line)["id"])
        return self.find([sample for sample in samples if sample.id in listed])
