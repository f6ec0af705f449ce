"""Log-sigmoid above a percentile of the references: pays until an answer is among the best."""

from __future__ import annotations

import math
from statistics import NormalDist

from pydantic import Field

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.compared import log_sigmoid
from vlrl.reward.shapes.references import ReferenceOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper

MIN_STD = 1e-5
"""Added to the references' deviation, as released."""


class LogSigmoidOptions(NodeOptions):
    """What values are compared with, and at which percentile of it."""

    references: ReferenceOptions = ReferenceOptions()
    percentile: float = Field(0.85, gt=0, lt=1, description="of a normal fit to the references")


class LogSigmoid(Shaper):
    """log sigmoid of the difference to a percentile of the references."""

    Options = LogSigmoidOptions
    formula = "log sigmoid(r - q), q the percentile of a normal fit to the references"
    source = "arXiv 2402.00742; PAR's release (arXiv 2502.18770) for the normal fit"
    saturates = True

    def __init__(self, options: NodeOptions, range: Range) -> None:
        assert isinstance(options, LogSigmoidOptions)
        self.options = options
        self.quantile = NormalDist().inv_cdf(options.percentile)
        low, high = range
        # A deviation is at most half the width.
        least = low - high - abs(self.quantile) * ((high - low) / 2 + MIN_STD)
        self.range = (log_sigmoid(least) if math.isfinite(least) else -math.inf, 0.0)

    @property
    def references(self) -> ReferenceOptions | None:
        """As the options say."""
        return self.options.references

    def shaped(self, value: float, seen: Seen) -> float:
        """log sigmoid(r - q); the deviation is that of the population."""
        num = len(seen.references)
        mean = math.fsum(seen.references) / num
        std = math.sqrt(math.fsum((one - mean) ** 2 for one in seen.references) / num)
        return log_sigmoid(value - (mean + self.quantile * (std + MIN_STD)))
