"""A reward that stops paying above a number."""

from __future__ import annotations

from pydantic import Field

from vlrl.errors import ConfigError
from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class CeilingOptions(NodeOptions):
    """Where it stops."""

    at: float = Field(description="nothing above it is paid")


class Ceiling(Shaper):
    """min(r, at)."""

    Options = CeilingOptions
    formula = "min(r, at)"

    def __init__(self, options: NodeOptions, range: Range) -> None:
        assert isinstance(options, CeilingOptions)
        low, high = range
        if not low < options.at:
            raise ConfigError(
                f"at: must be above the low end of the reward's range [{low:g}, {high:g}], "
                f"not {options.at:g}: every answer would get the same"
            )
        self.at = options.at
        self.range = (low, min(high, options.at))

    def shaped(self, value: float, seen: Seen) -> float:
        """min(r, at)."""
        return min(value, self.at)
