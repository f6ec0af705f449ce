"""The geometric mean of signed parts: negative as soon as one part is not positive."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vlrl.reward.combinators.combine import Joined, Range, hull


class SignedGeomean(Joined):
    """Geometric mean of the sizes; positive only if every part is. Meant for parts in [-1, 1].

    Example: {signed_geomean: [{use: track_spatial}, {use: temporal_iou}]}. Two bad parts do not
    make a good one, as they do where signs are multiplied. A part that is 0 makes it 0, and hides
    the others.
    """

    formula = "s (prod_i |r_i|)^(1/n) over the children that apply; s = 1 if all r_i > 0, else -1"
    source = "Lucy-SKG (arXiv 2305.15801), the KRC reward, eq. 2"

    def joint_value(self, applying: Sequence[tuple[float, float]]) -> float:
        """s exp(mean log |r_i|)."""
        values = [value for _, value in applying]
        if any(value == 0 for value in values):
            return 0.0
        size = math.exp(math.fsum(math.log(abs(value)) for value in values) / len(values))
        return size if all(value > 0 for value in values) else -size

    def joint_range(self, ranges: Sequence[Range]) -> Range:
        """Up to the largest high end; down to minus the largest size where a part may be <= 0."""
        low, high = hull(ranges)
        if low > 0:
            return (low, high)
        return (-max(-low, high), max(high, 0.0))
