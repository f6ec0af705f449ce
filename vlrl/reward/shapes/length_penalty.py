"""A reward less a price for every token beyond a free part."""

from __future__ import annotations

import math

from pydantic import Field, NonNegativeInt

from vlrl.config.section import OpenEnd
from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class LengthPenaltyOptions(NodeOptions):
    """The free part, and what a token costs."""

    free_tokens: NonNegativeInt = 300
    per_token: float = Field(0.01, gt=0)
    most: OpenEnd = Field(math.inf, gt=0, description="largest penalty; the range is then finite")


class LengthPenalty(Shaper):
    """The value less `per_token` for each token above `free_tokens`."""

    Options = LengthPenaltyOptions
    formula = "r - min(per_token max(tokens - free_tokens, 0), most)"

    def __init__(self, options: NodeOptions, range: Range) -> None:
        assert isinstance(options, LengthPenaltyOptions)
        self.options = options
        self.range = (range[0] - options.most, range[1])

    def shaped(self, value: float, seen: Seen) -> float:
        """The value less the penalty."""
        o = self.options
        beyond = max(seen.num_actions - o.free_tokens, 0)
        return value - min(o.per_token * beyond, o.most)
