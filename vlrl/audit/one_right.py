"""Whether a reward puts the right answer before answers that are known to be wrong.

Source: RewardMATH (arXiv 2410.01729): one right answer against many wrong ones; it has to be
strictly ahead of all of them, and where others share its place it comes last of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlrl.stats import bootstrap_mean, rank_ties_last


@dataclass(frozen=True)
class Row:
    """The rewards of one sample's known answers."""

    sample: str
    right: float
    wrong: Mapping[str, float]
    """By kind; answers to which the reward does not apply are not in it."""

    @property
    def rank(self) -> int:
        """Of the right answer, 1 = strictly ahead of all."""
        return rank_ties_last([self.right - value for value in self.wrong.values()])

    @property
    def ahead_of_it(self) -> tuple[str, ...]:
        """Kinds of wrong answers that get as much or more."""
        return tuple(kind for kind, value in self.wrong.items() if value >= self.right)


@dataclass(frozen=True)
class OneRight:
    """Over all rows; intervals are 95 % of a bootstrap."""

    accuracy: Mapping[str, float]
    """Share of rows in which the right answer is strictly ahead of every wrong one."""
    mrr: Mapping[str, float]
    """Mean of 1 / rank."""
    by_kind: Mapping[str, float]
    """Share in which it is strictly ahead of the wrong answer of that kind."""
    chance: float
    """What the share would be if rewards were drawn at random."""


def one_right(rows: Sequence[Row]) -> OneRight:
    """The measures over rows with a wrong answer; ValueError without any."""
    rows = [row for row in rows if row.wrong]
    if not rows:
        raise ValueError("no row has a wrong answer")
    kinds = dict.fromkeys(kind for row in rows for kind in row.wrong)
    by_kind = {
        kind: [float(row.right > row.wrong[kind]) for row in rows if kind in row.wrong]
        for kind in kinds
    }
    return OneRight(
        bootstrap_mean([float(row.rank == 1) for row in rows]),
        bootstrap_mean([1.0 / row.rank for row in rows]),
        {kind: sum(values) / len(values) for kind, values in by_kind.items()},
        sum(1.0 / (1 + len(row.wrong)) for row in rows) / len(rows),
    )
