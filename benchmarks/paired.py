"""Evaluations of several runs on the same samples, compared sample by sample."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlrl.stats import bootstrap_mean

Columns = Mapping[str, Sequence[float | None]]
"""Per-sample metrics by name, None where one does not apply."""


def columns(folder: Path, split: str, names: Sequence[str]) -> dict[str, list[float | None]]:
    """What a run's evaluation (`evaluations/before` or `after`) found for every sample."""
    found: dict[str, list[float | None]] = {name: [] for name in names}
    for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
        metrics = json.loads(line)["metrics"]
        for name in names:
            found[name].append(metrics.get(name))
    return found


def mean(values: Sequence[float | None]) -> float:
    """Over those that apply; nan without any."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan


def change(start: Columns, ends: Sequence[Columns], name: str) -> dict[str, float]:
    """Mean change of a metric with its 95 % interval: {"mean", "low", "high", "num"}.

    The interval resamples the samples; each one's change is averaged over the runs first. A sample
    counts if the metric applies before and after, in every run.
    """
    per_sample = []
    for before, *after in zip(start[name], *(end[name] for end in ends), strict=True):
        known = [value for value in after if value is not None]
        if before is not None and len(known) == len(after):
            per_sample.append(math.fsum(known) / len(known) - before)
    return bootstrap_mean(per_sample)


def shown(found: Mapping[str, float], scale: float, digits: int) -> str:
    """A change as "+1.2 [+0.3, +2.1]"."""
    cells = [f"{scale * found[key]:+.{digits}f}" for key in ("mean", "low", "high")]
    return f"{cells[0]} [{cells[1]}, {cells[2]}]"
