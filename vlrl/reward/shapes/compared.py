"""Kinds that compare a value with references: mean over m of f(slope (r - r_m))."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

from pydantic import Field

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.references import ReferenceOptions
from vlrl.reward.shapes.shaper import Range, Seen, Shaper


class ComparedOptions(NodeOptions):
    """What values are compared with, and how steeply."""

    references: ReferenceOptions = ReferenceOptions()
    slope: float = Field(1.0, gt=0, description="of the difference")


class MaybeComparedOptions(NodeOptions):
    """As above; values may also be taken as they are."""

    references: ReferenceOptions | None = Field(
        None, description="none: the value itself instead of its difference"
    )
    slope: float = Field(1.0, gt=0, description="of the value or difference")


class Compared(Shaper):
    """Mean over the references of a function of the difference."""

    Options: ClassVar[type[NodeOptions]] = ComparedOptions
    ends: Range
    """Of the function."""
    saturates = True

    def __init__(self, options: NodeOptions, range: Range) -> None:
        assert isinstance(options, ComparedOptions | MaybeComparedOptions)
        self.options = options
        self.range = self.ends

    @property
    def references(self) -> ReferenceOptions | None:
        """As the options say."""
        return self.options.references

    def shaped(self, value: float, seen: Seen) -> float:
        """mean_m f(slope (r - r_m)); f(slope r) without references."""
        references = (0.0,) if self.references is None else seen.references
        slope = self.options.slope
        total = math.fsum(self.of_difference(slope * (value - one)) for one in references)
        return total / len(references)

    @abstractmethod
    def of_difference(self, x: float) -> float:
        """The function of one difference, in `ends`."""


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    small = math.exp(x)
    return small / (1.0 + small)


def log_sigmoid(x: float) -> float:
    """log(1 / (1 + exp(-x))), without overflow."""
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))
