"""A hit rate with its counts: over all items (micro) or the plain mean of cells (macro)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vlrl.eval.gui.items import Item
from vlrl.gui.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Scored:
    """One question with its verdict."""

    item: Item
    verdict: Verdict

    @property
    def is_correct(self) -> bool:
        """Whether it counts as a hit; a failed call does not, but is reported apart."""
        return self.verdict.outcome is Outcome.CORRECT


@dataclass(frozen=True)
class Rate:
    """(correct, total) of one cell, or of several whose rates are averaged alike."""

    cells: tuple[tuple[int, int], ...]

    @property
    def value(self) -> float | None:
        """The rate in [0, 1]; None where a cell has no items."""
        if not self.cells or any(total == 0 for _, total in self.cells):
            return None
        return sum(correct / total for correct, total in self.cells) / len(self.cells)

    @property
    def total(self) -> int:
        """Items behind it."""
        return sum(total for _, total in self.cells)

    def interval(
        self, level: float = 0.95, num_resamples: int = 10_000, seed: int = 0
    ) -> tuple[float, float] | None:
        """Percentile bootstrap, cell by cell.

        Resampling n hits and misses with replacement gives Binomial(n, rate) hits, so that is
        drawn directly.
        """
        if self.value is None:
            return None
        rng = np.random.default_rng(seed)
        draws = [rng.binomial(n, c / n, num_resamples) / n for c, n in self.cells]
        tail = (1 - level) / 2
        low, high = np.quantile(np.mean(draws, axis=0), [tail, 1 - tail])
        return float(low), float(high)


Choice = Callable[[Item], bool]


def micro(scored: Iterable[Scored], choice: Choice = lambda item: True) -> Rate:
    """The rate over all chosen items together."""
    hits = [one.is_correct for one in scored if choice(one.item)]
    return Rate(((sum(hits), len(hits)),))


def macro(parts: Sequence[Rate]) -> Rate:
    """The plain mean of rates; parts without items are an error of the caller's choice of parts."""
    return Rate(tuple(cell for part in parts for cell in part.cells))


def count(scored: Iterable[Scored], outcome: Outcome) -> int:
    """How many had this outcome."""
    return sum(one.verdict.outcome is outcome for one in scored)
