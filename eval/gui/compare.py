"""Two evaluations of the same items, paired: who is better, by how much, and on which items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlrl.data.json_file import read_json_rows
from vlrl.errors import DataError
from vlrl.eval.results import grid
from vlrl.stats import bootstrap_difference, mcnemar

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Paired results; `second` is compared against `first`."""

    first: str
    second: str
    num_items: int
    rates: tuple[float, float]
    change: float
    """second - first, in [-1, 1]."""
    low: float
    high: float
    p_value: float
    """McNemar's exact test."""
    gained: tuple[tuple[Row, Row], ...]
    """Right only in the second: (first's line, second's line)."""
    lost: tuple[tuple[Row, Row], ...]
    """Right only in the first."""
    failed: tuple[int, int]
    """Failed calls in either; they count as misses here."""


def compare(first: Path, second: Path) -> Comparison:
    """Pair two run folders by item; DataError where they answer different questions."""
    rows_a, rows_b = read_predictions(first), read_predictions(second)
    if rows_a.keys() != rows_b.keys():
        odd = sorted(rows_a.keys() ^ rows_b.keys())
        raise DataError(
            f"{first} and {second} answer different items: {len(odd)} are in only one of them, "
            f"the first: {odd[0]!r}"
        )
    for own, row in rows_a.items():
        if row["target"] != rows_b[own]["target"]:
            raise DataError(
                f"item {own!r} has target {row['target']} in {first} and "
                f"{rows_b[own]['target']} in {second}: score both from the same files"
            )
    pairs = [(row, rows_b[own]) for own, row in rows_a.items()]
    hits_a, hits_b = [_hit(a) for a, _ in pairs], [_hit(b) for _, b in pairs]
    gained = tuple(pair for pair in pairs if _hit(pair[1]) > _hit(pair[0]))
    lost = tuple(pair for pair in pairs if _hit(pair[1]) < _hit(pair[0]))
    difference = bootstrap_difference(hits_a, hits_b)
    return Comparison(
        str(first),
        str(second),
        len(pairs),
        (sum(hits_a) / len(pairs), sum(hits_b) / len(pairs)),
        difference["mean"],
        difference["low"],
        difference["high"],
        mcnemar(len(lost), len(gained)),
        gained,
        lost,
        (_num_failed(rows_a), _num_failed(rows_b)),
    )


def read_predictions(folder: Path) -> dict[str, Row]:
    """The lines of a run's predictions.jsonl by item; DataError where there are none."""
    path = folder / "predictions.jsonl" if folder.is_dir() else folder
    rows = read_json_rows(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or not {"id", "verdict", "target"} <= row.keys():
            raise DataError(f"{path}, row {number}: not a line that `vlrl eval` writes")
    if not rows:
        raise DataError(f"{path}: empty")
    return {row["id"]: row for row in rows}


def _hit(row: Row) -> float:
    return float(row["verdict"] == "correct")


def _num_failed(rows: Mapping[str, Row]) -> int:
    return sum(row["verdict"] == "failed" for row in rows.values())


def markdown(result: Comparison, num_listed: int = 20) -> str:
    """The comparison as text, with the first items that changed."""
    a, b = result.rates
    lines = [
        ["first", result.first, f"{100 * a:.1f}", str(result.failed[0])],
        ["second", result.second, f"{100 * b:.1f}", str(result.failed[1])],
    ]
    parts = [
        grid(["", "run", "accuracy", "failed calls"], lines, num_left=2),
        f"Change: **{100 * result.change:+.1f} points** "
        f"[{100 * result.low:+.1f}, {100 * result.high:+.1f}] (95 %, paired bootstrap, "
        f"n = {result.num_items}); {len(result.gained)} gained, {len(result.lost)} lost, "
        f"McNemar p = {result.p_value:.3g}.",
    ]
    for title, pairs in (("Gained", result.gained), ("Lost", result.lost)):
        if pairs:
            listed = [_changed(*pair) for pair in pairs[:num_listed]]
            table = grid(["item", "instruction", "first", "second"], listed, num_left=4)
            more = "" if len(pairs) <= num_listed else f"\n\n... and {len(pairs) - num_listed} more"
            parts.append(f"## {title} ({len(pairs)})\n\n{table}{more}")
    return "\n\n".join(parts) + "\n"


def _changed(first: Row, second: Row) -> list[str]:
    instruction = str(first["instruction"]).replace("|", "/").replace("\n", " ")
    return [first["id"], instruction[:60], first["reason"], second["reason"]]


def to_json(result: Comparison) -> str:
    """The metrics and the ids of the items that changed."""
    pairs: Sequence[tuple[str, tuple[tuple[Row, Row], ...]]] = (
        ("gained", result.gained),
        ("lost", result.lost),
    )
    metrics = {
        "first": result.first,
        "second": result.second,
        "num_items": result.num_items,
        "accuracy": list(result.rates),
        "change": result.change,
        "low": result.low,
        "high": result.high,
        "mcnemar_p": result.p_value,
        "failed": list(result.failed),
        **{name: [first["id"] for first, _ in found] for name, found in pairs},
    }
    return json.dumps(metrics, indent=2, ensure_ascii=False)
