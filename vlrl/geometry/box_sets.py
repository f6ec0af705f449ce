"""Sets of boxes compared with sets: one-to-one matching by overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real

from vlrl.geometry.boxes import iou

LARGEST = 1e100
"""Of a coordinate: the square of twice as much is finite."""


def iou_table(a: Real[np.ndarray, "N 4"], b: Real[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """IoU of every xyxy box of `a` with every one of `b`; sides may have any length."""
    N, M = len(a), len(b)
    # A side of 1e300 px has no area that a float holds, and no overlap worth one either.
    a, b = np.clip(a, -LARGEST, LARGEST), np.clip(b, -LARGEST, LARGEST)
    return iou(np.repeat(a, M, axis=0), np.tile(b, (N, 1))).reshape(N, M)


TIE = 1e-9
"""Of two matchings that are worth the same, the one with more pairs is taken."""


def matched(
    a: Real[np.ndarray, "N 4"], b: Real[np.ndarray, "M 4"], weights: Sequence[float] | None = None
) -> list[tuple[int, int, float]]:
    """Pairs (place in a, place in b, IoU > 0), each place once, of the largest total IoU.

    weights: of the boxes of `b`, with a sum of 1; the total is then the weighted one.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(a) or not len(b):
        return []
    table = iou_table(a, b)
    worth = table if weights is None else table * np.asarray(weights)
    rows, columns = linear_sum_assignment(worth + TIE * (table > 0), maximize=True)
    found = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(i, j, float(table[i, j])) for i, j in found if table[i, j] > 0]
