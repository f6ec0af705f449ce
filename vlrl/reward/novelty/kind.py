"""What a kind of novelty is: values for the answers of a group, and perhaps a memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from vlrl.reward.node import NodeOptions


class NoveltyKind(ABC):
    """Values in [0, 1]: 1 is unlike anything else."""

    Options: ClassVar[type[NodeOptions]] = NodeOptions
    formula: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def __init__(self, options: NodeOptions, num_features: int) -> None:
        """num_features: of an answer."""

    @abstractmethod
    def values(self, features: np.ndarray) -> Sequence[float | None]:
        """Of the answers of one group, [G, D] of length 1 each; None = does not apply."""


class RememberingKind(NoveltyKind):
    """Novelty over the run."""

    @abstractmethod
    def remember(self, features: np.ndarray) -> Mapping[str, float]:
        """Answers of a step, [N, D], in an order of their own; returns metrics."""

    @abstractmethod
    def state(self) -> Mapping[str, Any]:
        """What it remembers, as torch saves it."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with it; ValueError where it does not fit."""
