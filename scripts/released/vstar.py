"""V-STaR: overlap in time of an answered and a true span."""

from __future__ import annotations

import ast
import random
from typing import Any

from released.comparison import Answer, Comparison, Json
from released.source import Source

COMMIT = "1894682b15be0a0c0c5ab24be6e8252743cd6c2f"
REPOSITORY = "V-STaR-Bench/V-STaR"


def spans(random: random.Random) -> list[Json]:
    """Rows of [true start, true end, answered start, answered end]."""
    rows: list[Json] = [[3.0, 3.0, 3.0, 3.0], [15.0, 20.0, 12.0, 19.0], [15.0, 20.0, 20.0, 12.0]]
    for _ in range(200):
        row: list[Json] = []
        for _ in range(2):
            start = round(random.uniform(0, 10), random.choice((0, 1, 2)))
            row += [start, round(start + random.choice((0, 1, 2.5, 6, -1)[: 4 + len(row) // 2]), 2)]
        rows.append(row if random.random() < 0.8 else [*row[:2], *row[:2]])
    return rows


def overlap(source: Source) -> Answer:
    """`calculate_temporal_iou`."""
    iou: Any = source.define("eval.py", ["calculate_temporal_iou"], {"ast": ast})
    function = iou["calculate_temporal_iou"]
    return lambda row: float(function(row[:2], row[2:]))  # type: ignore[index]


COMPARISONS = [Comparison("vstar_spans", REPOSITORY, COMMIT, "eval.py", spans, overlap)]
