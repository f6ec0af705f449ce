"""Novelty over a run: how far random targets of an answer are learnt by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from vlrl.reward.node import NodeOptions
from vlrl.reward.novelty.kind import RememberingKind

RIDGE = 1e-3


class DistilledOptions(NodeOptions):
    """The random targets, and how alike answers must be to count as one."""

    num_targets: PositiveInt = Field(64, description="random numbers of an answer to be learnt")
    noise: PositiveFloat = Field(1.0, description="deviation of a target each time it is seen")
    spread: PositiveFloat = Field(3.0, description="size of the targets' means")
    bandwidth: PositiveFloat = Field(0.5, description="distance at which answers are different")
    num_random: PositiveInt = Field(256, description="random features that targets are fitted on")
    seed: int = Field(0, ge=0, le=2**32 - 1)


class Distilled(RememberingKind):
    """1 / (1 + n) for an answer seen n times, about; nearly 1 for one unlike any before.

    Targets of an answer are drawn around fixed random means; a least-squares fit learns them, and
    what it misses of the means shrinks as noise^2 / n. Differs from the paper, whose predictor is a
    network and may underfit, and whose bonus has no upper end.
    """

    Options = DistilledOptions
    formula = "b / (b + noise^2), b = |f(x) - mean(x)|^2 / num_targets, f fitted to noisy targets"
    source = "RDD (random distribution distillation), as two notes quote its equations"

    def __init__(self, options: NodeOptions, num_features: int) -> None:
        assert isinstance(options, DistilledOptions)
        self.options = o = options
        rng = np.random.default_rng(o.seed)
        self._directions = rng.normal(size=(num_features, o.num_random)) / o.bandwidth
        self._phases = rng.uniform(0, 2 * np.pi, o.num_random)
        self._target_directions = rng.normal(size=(num_features, o.num_targets)) / o.bandwidth
        self._target_phases = rng.uniform(0, 2 * np.pi, o.num_targets)
        self.num_seen = 0
        self._products = RIDGE * np.eye(o.num_random)
        self._sums = np.zeros((o.num_random, o.num_targets))
        self._weights: np.ndarray = np.zeros((o.num_random, o.num_targets))

    def values(self, features: np.ndarray) -> Sequence[float | None]:
        """Row by row, so that a value does not depend on the size of the group."""
        return [self._value(row) if row.any() else 0.0 for row in features]

    def _value(self, row: np.ndarray) -> float:
        missed = self.bonus(row)
        return missed / (missed + self.options.noise**2)

    def bonus(self, row: np.ndarray) -> float:
        """|f(x) - mean(x)|^2 / d of one answer, [D]."""
        gap = self._random(row) @ self._weights - self._mean(row)
        return float(np.mean(gap**2))

    def _random(self, row: np.ndarray) -> np.ndarray:
        scale = np.sqrt(2 / self.options.num_random)
        return np.asarray(scale * np.cos(row @ self._directions + self._phases))

    def _mean(self, row: np.ndarray) -> np.ndarray:
        waves = np.cos(row @ self._target_directions + self._target_phases)
        return np.asarray(self.options.spread * np.sqrt(2) * waves)

    def remember(self, features: np.ndarray) -> Mapping[str, float]:
        """Draw a target of each answer and fit them all."""
        seen = features[features.any(1)]
        if len(seen):
            # The draws depend on how many came before, not on the rank.
            rng = np.random.default_rng((self.options.seed, self.num_seen))
            noise = rng.normal(size=(len(seen), self.options.num_targets)) * self.options.noise
            inputs = self._random(seen)
            self._products += inputs.T @ inputs
            self._sums += inputs.T @ (self._mean(seen) + noise)
            self._weights = np.linalg.solve(self._products, self._sums)
            self.num_seen += len(seen)
        return {"seen": float(self.num_seen)}

    def state(self) -> Mapping[str, Any]:
        """The fit; the random directions follow from the seed."""
        import torch

        return {
            "num_seen": self.num_seen,
            "products": torch.from_numpy(self._products.copy()),
            "sums": torch.from_numpy(self._sums.copy()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with a fit; ValueError where its sizes are other ones."""
        products, sums = (state[name].numpy().copy() for name in ("products", "sums"))
        if products.shape != self._products.shape or sums.shape != self._sums.shape:
            raise ValueError(f"saved with {products.shape} and {sums.shape} numbers")
        self.num_seen, self._products, self._sums = int(state["num_seen"]), products, sums
        if self.num_seen:
            self._weights = np.linalg.solve(self._products, self._sums)
