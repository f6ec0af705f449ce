"""InfiGUI-G1's check against points that merely scan a line."""

from __future__ import annotations

from itertools import combinations

from vlrl.geometry.boxes import Frame
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout

MAX_POINTS = 32
"""Beyond it the answer is a scan anyway; also bounds the cubic number of triples."""


@reward_function(
    range=(0.0, 1.0),
    formula="0 if there is no point, if three points lie on one line, or if there are over 32",
    units="any; the test is exact for whole numbers in the frame of the answer",
    source="InfiGUI-G1 (arXiv 2508.05731), collinearity penalty of AER",
    needs=("points",),
)
def points_spread(rollout: Rollout) -> float:
    """1 if no three of the answer's points lie on one line."""
    points = () if rollout.parsed is None else rollout.parsed.points
    if not 0 < len(points) <= MAX_POINTS:
        return 0.0
    unit = Frame(1, 1)
    places = [(place.x, place.y) for place in (point.to(unit) for point in points)]
    return float(not any(on_one_line(*triple) for triple in combinations(places, 3)))


def on_one_line(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether a triangle in the unit frame is flat, to 1e-9 of the image's area."""
    return abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) <= 1e-9
