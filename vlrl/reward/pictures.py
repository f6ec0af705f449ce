"""Rewards that look at pictures: the part that is alike for all of them.

A subclass says what it is (`range`, `needs`, `Options`), loads its model in `load` on first use,
and gives numbers for a batch in `values`. Nothing heavy is imported before the first call, so a
config with ten reward models is still checked in a second.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from vlrl.errors import RewardError
from vlrl.types import Rollout, Score


class PictureOptions(BaseModel):
    """What every picture reward can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: PositiveInt = 32
    """Pictures scored together."""


class ModelOptions(PictureOptions):
    """And what every reward with a model can be told."""

    device: str = "auto"
    """auto = this rank's GPU where there is one."""


class PictureReward(ABC):
    """One number a picture; an answer that is no picture scores the low end of the range."""

    Options: type[PictureOptions] = PictureOptions
    needs: frozenset[str] = frozenset({"image"})
    range: tuple[float, float]
    formula: str
    units: str = "none"
    source: str

    def __init__(self, options: Any) -> None:
        self.options = options
        self.name = type(self).__name__.lower()
        self._loaded = False

    def load(self) -> None:  # noqa: B027 (plain formulas have nothing to load)
        """Load the model, once, before the first picture; nothing to do for plain formulas."""

    @abstractmethod
    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """Numbers for some pictures (uint8 [H, W, 3]) and their rollouts; None: does not apply."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order; raises RewardError on a value outside the range."""
        if rollouts and not self._loaded:
            self.load()
            self._loaded = True
        found: list[float | None] = [self.range[0]] * len(rollouts)
        rows = [i for i, rollout in enumerate(rollouts) if rollout.parsed is not None]
        for start in range(0, len(rows), self.options.batch_size):
            part = rows[start : start + self.options.batch_size]
            chosen = [rollouts[i] for i in part]
            values = self.values([rollout.parsed.image for rollout in chosen], chosen)
            for i, value in zip(part, values, strict=True):
                found[i] = None if value is None else float(value)
        return [self._score(*pair) for pair in zip(rollouts, found, strict=True)]

    def _score(self, rollout: Rollout, value: float | None) -> Score:
        if value is None:
            return Score(None)
        low, high = self.range
        if math.isnan(value) or not low - 1e-6 <= value <= high + 1e-6:
            raise RewardError(
                f"reward {self.name!r} gave {value} for sample {rollout.sample.id!r}; "
                f"it declares the range [{low:g}, {high:g}]"
            )
        return Score(value, {self.name: value})
