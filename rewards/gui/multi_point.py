"""InfiGUI-G1's adaptive exploration reward: several points, the rank of the first hit counts."""

from __future__ import annotations

import math

from vlrl.geometry.boxes import Box, Point
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(-1.0, 1.0),
    formula="1 / sqrt(N k) if the k-th of N points is the first in the true box, -1 / N if none is",
    units="any, points and box in one frame",
    source=(
        "InfiGUI-G1 (arXiv 2508.05731), AER accuracy term; the format term and the penalty for "
        "points on one line are `format` and `points_spread` in configs/rewards/infigui_g1.yaml"
    ),
    needs=("box", "points"),
)
def multi_point(rollout: Rollout) -> float | None:
    """Exploration efficiency of one answer, in [-1, 1]; -1 without any finite point."""
    target: Box | None = rollout.sample.target.box
    if target is None:
        return None
    points = () if rollout.parsed is None else rollout.parsed.points
    if not points:
        return -1.0
    for rank, point in enumerate(points, start=1):
        if _inside(point, target):
            return 1.0 / math.sqrt(len(points) * rank)
    return -1.0 / len(points)


def _inside(point: Point, box: Box) -> bool:
    here = point.to(box.frame)
    return box.x1 <= here.x <= box.x2 and box.y1 <= here.y <= box.y2
