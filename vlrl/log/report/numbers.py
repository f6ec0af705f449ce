"""How numbers are written: shares as percent, all others with three significant digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

SMALLEST_PLAIN = 1e-4


def is_rate(*columns: Iterable[float]) -> bool:
    """Whether every value is 0 or 1, so that the mean is a share of the samples."""
    return all(value in (0, 1) for column in columns for value in column)


def percent(value: float) -> str:
    """0.305 -> "30.5 %"."""
    return f"{100 * value:.1f} %"


def points(change: float) -> str:
    """Difference of two shares in percentage points: 0.025 -> "+2.5"."""
    return f"{100 * change:+.1f}"


def writer(values: Sequence[float], least_decimals: int = 0) -> Callable[..., str]:
    """Writes numbers that stand together with as many decimals as the largest of them needs.

    The result takes a number and, as `sign`, "+" to write that of positive ones too.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    decimals = 2 - math.floor(math.log10(largest)) if largest else 2

    def write(value: float, sign: str = "") -> str:
        # "z": nothing is written as -0.00.
        if 0 < largest < SMALLEST_PLAIN:
            return f"{round(value, decimals):{sign}z.2e}"
        return f"{value:{sign}z.{max(decimals, least_decimals, 0)}f}"

    return write
