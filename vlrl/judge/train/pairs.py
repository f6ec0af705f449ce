"""The pairs that a judge is trained and measured on, as a run walks over them."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass

from vlrl.errors import DataError
from vlrl.judge.data.preference import Preference, PreferenceSource
from vlrl.judge.data.preferences import read_preferences

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A pair, and whether it is left out where it proves unreadable in mid-run."""

    pair: Preference
    skips: bool

    @property
    def id(self) -> str:
        """Unique in a run, whose files may number their pairs alike."""
        return f"{self.pair.where}: {self.pair.id}"


def entries_of(sources: Iterable[PreferenceSource]) -> list[Entry]:
    """The good pairs of all sources, in order; says how many rows were skipped."""
    found: list[Entry] = []
    for source in sources:
        rows = read_preferences(source)
        if rows.skipped:
            log.warning(
                "%s: %d bad rows skipped, the first: %s",
                source.path,
                len(rows.skipped),
                rows.skipped[0],
            )
        found += [Entry(pair, source.on_bad_row == "skip") for pair in rows.good]
    return found


class PairSampler:
    """A shuffled walk over pairs; the same on all ranks, and its whole state is one number."""

    def __init__(self, num: int, seed: str, left_out: frozenset[int] = frozenset()) -> None:
        """left_out: pairs that cannot be read; another one is drawn in the place of each."""
        self.num, self.seed, self.left_out = num, seed, left_out
        self._epoch = -1
        self._kept: list[int] = []

    def at(self, position: int, count: int) -> list[int]:
        """The pairs at `position` to `position + count` of the endless walk.

        Raises DataError where every pair is left out.
        """
        if len(self.left_out) >= self.num:
            raise DataError(f"none of the {self.num} pairs can be read")
        drawn = []
        for place in range(position, position + count):
            epoch, i = divmod(place, self.num)
            pair = self._order(epoch)[i]
            if pair in self.left_out:
                # A draw of its own for each place, so that what stands at the others stays.
                instead = random.Random(f"{self.seed}/{place}/instead")
                while pair in self.left_out:
                    pair = instead.randrange(self.num)
            drawn.append(pair)
        return drawn

    def _order(self, epoch: int) -> list[int]:
        if self._epoch != epoch:
            self._epoch, self._kept = epoch, list(range(self.num))
            random.Random(f"{self.seed}/{epoch}").shuffle(self._kept)
        return self._kept
