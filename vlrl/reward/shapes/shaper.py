"""What a kind of shaping is: a value, and what is known beside it, to a value of a known range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vlrl.reward.node import NodeOptions
from vlrl.reward.shapes.references import ReferenceOptions
from vlrl.reward.shapes.running import NOTHING, Statistics

Range = tuple[float, float]


@dataclass(frozen=True)
class Seen:
    """What a kind may look at beside the value."""

    references: Sequence[float] = ()
    """Rewards that the value is compared with; at least one where the kind asks for them."""
    statistics: Statistics = NOTHING
    """Of all values before this step; never empty where the kind asks for them."""
    num_actions: int = 0
    """Tokens of the answer."""


class Shaper(ABC):
    """One kind of shaping; pure: what it remembers is given to it."""

    Options: ClassVar[type[NodeOptions]] = NodeOptions
    formula: ClassVar[str]
    source: ClassVar[str] = "PAR (arXiv 2502.18770) and its release"
    affine: Literal["no", "shift", "scale"] = "no"
    """shift: adds a constant within a group; scale: multiplies too. The linter asks."""
    by_prompt: ClassVar[bool] = False
    """Of an affine kind: the constants differ from prompt to prompt."""
    saturates: ClassVar[bool] = False
    """Far from its middle, different values come out almost equal."""
    keeps_statistics: ClassVar[bool] = False

    range: Range
    """Closed interval that every shaped value lies in."""

    @property
    def references(self) -> ReferenceOptions | None:
        """What values are compared with; None = with nothing."""
        return None

    @abstractmethod
    def __init__(self, options: NodeOptions, range: Range) -> None:
        """range: of the reward to be shaped. Raises ConfigError where it does not fit."""

    @abstractmethod
    def shaped(self, value: float, seen: Seen) -> float:
        """The shaped value."""
