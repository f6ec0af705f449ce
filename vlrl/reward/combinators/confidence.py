"""A learnt reward only where its model has seen answers like this one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.known_features import KnownFeatures, load_known
from vlrl.reward.node import Build, Node, NodeOptions
from vlrl.reward.parts import join_parts, leaves
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score


class ConfidenceOptions(NodeOptions):
    """A reward with features, the known ones, and how many of these would pass."""

    of: Node
    known: str = Field(
        description="file of features of answers on which the reward is trusted; `vlrl audit` "
        "writes one for every reward that has features"
    )
    keep: float = Field(
        0.95,
        gt=0,
        le=1,
        description="share of the known answers that would pass; 1 lets every answer pass",
    )


class Confidence(Combinator):
    """`of` where its model's features lie near known ones; elsewhere it does not apply.

    Example: {confidence: {of: {use: preference_head}, known: features/head.safetensors}}. An answer
    passes if at least 1 - keep of the known answers lie as far or farther from the others as it
    does from them. One that does not pass takes no part in its group's statistics and has no
    advantage; in a `sum` it still gets the other parts. An answer that is not there at all, and so
    has no features, keeps its reward.
    """

    Options = ConfidenceOptions
    formula = "of, where the share of known answers at least as far away is >= 1 - keep"
    source = "MRMBench (arXiv 2511.12464), inference-time probing; calibrated by quantile here"
    name = "confidence"

    def __init__(self, of: Reward, known: str, keep: float = 0.95) -> None:
        super().__init__((of,))
        self.of, self.known, self.keep = of, Path(known), keep
        self.range = of.range

    @classmethod
    def from_config(cls, value: object, where: str, build: Build) -> Self:
        """As other nodes; ConfigError also where there is no such file."""
        node: Any = super().from_config(value, where, build)
        if not node.known.is_file():
            raise ConfigError(
                f"{where}.known: there is no file {str(node.known)!r}; `vlrl audit` writes one "
                "for every reward that has features"
            )
        return node

    @cached_property
    def _known(self) -> KnownFeatures:
        return load_known(self.known)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; the confidence is a part, `<name>`."""
        scores = score(self.of, rollouts)
        name = self.label or self.name
        found = []
        for one, confidence in zip(scores, self._confidence(rollouts), strict=True):
            parts = join_parts([(self.of, one)])
            if np.isnan(confidence):
                found.append(Score(one.value, parts))
                continue
            # The least share is a difference of floats: rounding must not drop an answer.
            passes = confidence >= 1 - self.keep - 1e-9
            value = one.value if passes else None
            found.append(Score(value, {**parts, name: float(confidence)}))
        return found

    def _confidence(self, rollouts: Sequence[Rollout]) -> np.ndarray:
        """[N]; nan where there are no features."""
        found = np.full(len(rollouts), np.nan)
        if not any(rollout.parsed is not None for rollout in rollouts):
            return found
        features = next(
            (f for leaf in leaves(self.of) if (f := leaf.answer_features(rollouts)) is not None),
            None,
        )
        if features is None:
            raise RewardError(f"{self.place or self.name}: no reward below it has features")
        if features.shape[1] != self._known.num_features:
            raise RewardError(
                f"{self.place or self.name}: {self.known} holds features of "
                f"{self._known.num_features} numbers, the reward's model gives {features.shape[1]};"
                " write the file again with the same model"
            )
        there = np.isfinite(features).all(1)
        found[there] = self._known.confidence(features[there])
        return found
