"""Reading a split, the same for every kind of row: limits, bad rows, ids, caching."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Generic, Literal, Protocol, TypeVar

from pydantic import Discriminator, Tag

from vlrl.errors import ConfigError, DataError, did_you_mean
from vlrl.types import Sample

log = logging.getLogger(__name__)


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=_HasId)
Source = TypeVar("Source")
ONE, SEVERAL = "<one>", "<several>"
"""Tags of `OneOrMore`; pydantic's error locations hold them, vlrl.config.resolve removes them."""


def _kind(value: object) -> str:
    return SEVERAL if isinstance(value, list | tuple) else ONE


OneOrMore = Annotated[
    Annotated[Source, Tag(ONE)] | Annotated[list[Source], Tag(SEVERAL)], Discriminator(_kind)
]
"""A split's source, or a list of them: their rows follow each other."""


class LeftOutError(Exception):
    """A row that is sound and of no use here, with the reason: counted, never a bad row."""


@dataclass
class Rows(Generic[Row]):
    """The good rows of a split in file order, and what was skipped, with the reasons."""

    good: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Sound rows that are of no use here, counted by reason."""

    @property
    def why_left_out(self) -> str:
        """The reasons with their numbers, the most frequent first."""
        return "; ".join(f"{number}: {why}" for why, number in self.left_out.most_common())


def collect(
    entries: Iterable[tuple[str, Callable[[], Row]]],
    source: str,
    *,
    limit: int | None,
    on_bad_row: Literal["error", "skip"],
    check: Callable[[Row], None] | None = None,
) -> Rows[Row]:
    """Check the entries (location, how to get the row) one by one, at most `limit` good ones.

    check: what else a good row must pass; raises DataError, to which the place is added.

    A bad row raises DataError, or with `skip` is listed in `skipped`; one that raises
    LeftOutError is counted in `left_out`. A repeated id
    makes a bad row; a source without a good row always raises.
    """
    rows: Rows[Row] = Rows()
    seen: dict[str, str] = {}
    for where, checked in entries:
        if limit is not None and len(rows.good) >= limit:
            break
        try:
            row = checked()
            if check is not None:
                _check(row, check, where)
            if row.id in seen:
                raise DataError(f"{where}: id {row.id!r} is also that of {seen[row.id]}")
        except LeftOutError as error:
            rows.left_out[str(error)] += 1
            continue
        except DataError as error:
            if on_bad_row == "error":
                raise
            rows.skipped.append(str(error))
            continue
        seen[row.id] = where
        rows.good.append(row)
    require_good(rows, source)
    return rows


def require_good(rows: Rows[Row], source: str) -> None:
    """Raise DataError where a source has no good row."""
    if not rows.good:
        why = f"; first reason: {rows.skipped[0]}" if rows.skipped else ""
        why += f"; left out: {rows.why_left_out}" if rows.left_out else ""
        raise DataError(f"{source}: no usable row{why}")


def _check(row: Row, check: Callable[[Row], None], where: str) -> None:
    try:
        check(row)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


class Splits(Generic[Source, Row]):
    """The splits of a task, each read on first use."""

    def __init__(
        self,
        sources: Mapping[str, Source | list[Source]],
        read: Callable[[Source], Rows[Row]],
        sample: Callable[[Row], Sample],
    ) -> None:
        self.sources, self._read, self._sample = sources, read, sample
        self.skipped: dict[str, list[str]] = {}
        """Rows left out under `on_bad_row: skip`, by split: file, row and reason each."""
        self._samples: dict[str, tuple[Sample, ...]] = {}

    def samples(self, split: str) -> Sequence[Sample]:
        """All samples of a split, in file order; raises ConfigError, DataError."""
        if split not in self._samples:
            if split not in self.sources:
                hint = did_you_mean(split, self.sources)
                raise ConfigError(f"task.data has no split {split!r}; {hint}")
            rows = self._rows(split)
            if rows.skipped:
                log.warning(
                    "split %s: %d bad rows skipped, the first: %s",
                    split,
                    len(rows.skipped),
                    rows.skipped[0],
                )
            if rows.left_out:
                number = rows.left_out.total()
                log.warning("split %s: %d rows left out (%s)", split, number, rows.why_left_out)
            self.skipped[split] = rows.skipped
            self._samples[split] = tuple(self._sample(row) for row in rows.good)
        return self._samples[split]

    def sources_of(self, split: str) -> list[Source]:
        """The sources of a split, in order."""
        found = self.sources[split]
        return found if isinstance(found, list) else [found]

    def _rows(self, split: str) -> Rows[Row]:
        """The rows of all sources of a split; DataError where two of them share an id."""
        parts = [self._read(source) for source in self.sources_of(split)]
        if not parts:
            raise ConfigError(f"task.data.{split} is an empty list")
        seen: dict[str, int] = {}
        for place, part in enumerate(parts):
            for row in part.good:
                if (other := seen.setdefault(row.id, place)) != place:
                    raise DataError(
                        f"task.data.{split}: id {row.id!r} is in source {other} and in "
                        f"source {place}; ids must be unique within a split"
                    )
        return Rows(
            [row for part in parts for row in part.good],
            [reason for part in parts for reason in part.skipped],
            sum((part.left_out for part in parts), Counter()),
        )
