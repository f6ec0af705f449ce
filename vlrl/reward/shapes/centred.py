"""A reward less that of its references."""

from __future__ import annotations

import math

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.references import ReferenceOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class CentredOptions(NodeOptions):
    """What values are compared with."""

    references: ReferenceOptions = ReferenceOptions()


class Centred(Shaper):
    """The value less the mean of its references."""

    Options = CentredOptions
    formula = "r - 1/M sum_m r_m"
    by_prompt = True

    def __init__(self, options: NodeOptions, range: Range) -> None:
        assert isinstance(options, CentredOptions)
        self.options = options
        low, high = range
        self.range = (low - high, high - low)
        # Of the rest of the group: G / (G - 1) (r - mean), which multiplies too.
        self.affine = "scale" if options.references.source == "group" else "shift"

    @property
    def references(self) -> ReferenceOptions | None:
        """As the options say."""
        return self.options.references

    def shaped(self, value: float, seen: Seen) -> float:
        """r - mean of the references."""
        return value - math.fsum(seen.references) / len(seen.references)
