"""Novelty inside a group: how much of an answer the others do not span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import PositiveFloat

from vlrl.reward.node import NodeOptions
from vlrl.reward.novelty.kind import NoveltyKind


class EllipticalOptions(NodeOptions):
    """How much of a seen direction still counts."""

    ridge: PositiveFloat = 0.1


class Elliptical(NoveltyKind):
    """Each answer against all others of its group, so the order does not matter.

    Differs from E3B, where an answer is compared with those before it, and by the factor `ridge`,
    which makes an answer that is orthogonal to the others worth 1.
    """

    Options = EllipticalOptions
    formula = "ridge x^T (ridge I + sum_j y_j y_j^T)^-1 x, y_j the others of the group"
    source = "E3B (arXiv 2210.05805)"

    def __init__(self, options: NodeOptions, num_features: int) -> None:
        assert isinstance(options, EllipticalOptions)
        self.ridge = options.ridge

    def values(self, features: np.ndarray) -> Sequence[float | None]:
        """|x|^2 - k^T (ridge I + K)^-1 k with the others' products: no D x D matrix."""
        G = len(features)
        if G < 2:
            return [None] * G
        products = features @ features.T
        found: list[float | None] = []
        for i in range(G):
            others = [j for j in range(G) if j != i]
            K = products[np.ix_(others, others)] + self.ridge * np.eye(G - 1)
            k = products[i, others]
            value = float(products[i, i] - k @ np.linalg.solve(K, k))
            found.append(min(max(value, 0.0), 1.0))
        return found
