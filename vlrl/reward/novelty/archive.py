"""Novelty against an archive of what was seen over the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field, PositiveInt

from vlrl.reward.node import NodeOptions
from vlrl.reward.novelty.kind import RememberingKind


class ArchiveOptions(NodeOptions):
    """What the archive takes, and what answers are compared with in it."""

    num_nearest: PositiveInt = Field(5, description="entries that a value is the mean of")
    apart: float = Field(
        0.1, ge=0, le=1, description="an answer is kept where no entry is nearer than that"
    )
    size: PositiveInt = Field(10_000, description="entries at most; the oldest leave")


class Archive(RememberingKind):
    """Mean distance to the nearest entries, opposite answers being 1 apart; 1 while it is empty."""

    Options = ArchiveOptions
    formula = "mean over the k nearest entries e of |x - e| / 2"
    source = "novelty search (Lehman and Stanley 2011), as in the archives of pyribs; own code"

    def __init__(self, options: NodeOptions, num_features: int) -> None:
        assert isinstance(options, ArchiveOptions)
        self.options = options
        self.entries = np.zeros((0, num_features))

    def values(self, features: np.ndarray) -> Sequence[float | None]:
        """Row by row; an answer with nothing to compare gets 0."""
        return [self._value(row) if row.any() else 0.0 for row in features]

    def _value(self, row: np.ndarray) -> float:
        if not len(self.entries):
            return 1.0
        nearest = np.sort(self._distances(row))[: self.options.num_nearest]
        return min(float(nearest.mean()), 1.0)

    def _distances(self, row: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(self.entries - row, axis=1) / 2)

    def remember(self, features: np.ndarray) -> Mapping[str, float]:
        """Keep the answers that are far enough from all entries, one after the other."""
        for row in features[features.any(1)]:
            if not len(self.entries) or self._distances(row).min() >= self.options.apart:
                self.entries = np.concatenate([self.entries, row[None]])[-self.options.size :]
        return {"entries": float(len(self.entries))}

    def state(self) -> Mapping[str, Any]:
        """The entries, oldest first."""
        import torch

        return {"entries": torch.from_numpy(self.entries.copy())}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with them; ValueError where answers have other features now."""
        entries = state["entries"].numpy().copy()
        if entries.shape[1] != self.entries.shape[1]:
            raise ValueError(f"saved with {entries.shape[1]} features")
        self.entries = entries
