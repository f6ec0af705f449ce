"""Whether a point lies in a polygon."""

from __future__ import annotations

from collections.abc import Sequence

from vlrl.geometry.boxes import Point


def in_polygon(point: Point, corners: Sequence[Point]) -> bool:
    """Even-odd rule, corners in order, edges included (OSWorld-G leaves its edges undefined)."""
    inside = False
    for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
        cross = (b.x - a.x) * (point.y - a.y) - (b.y - a.y) * (point.x - a.x)
        in_span = min(a.x, b.x) <= point.x <= max(a.x, b.x) and min(a.y, b.y) <= point.y <= max(
            a.y, b.y
        )
        if cross == 0 and in_span:
            return True
        if (a.y > point.y) != (b.y > point.y):
            crossing = a.x + (point.y - a.y) * (b.x - a.x) / (b.y - a.y)
            inside ^= point.x < crossing
    return inside
