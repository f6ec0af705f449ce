"""What a learnt reward's features know, and how alike those of two rewards are.

Linear probes: MRMBench (arXiv 2511.12464). Dissimilarity matrices and
rho-a: representational similarity analysis as rsatoolbox has it; the geo-topological transform: The
Topology and Geometry of Neural Representations (arXiv 2309.11028).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vlrl.reward.known_features import distance_matrix

NUM_FOLDS = 5
RIDGE = 1.0
"""Of the probe, beside features of variance 1 and as many rows as there are."""


@dataclass(frozen=True)
class Probe:
    """How well a linear map of the features tells one label's values."""

    accuracy: float
    """On rows whose prompts it did not learn from."""
    majority: float
    """Of always giving the value that is most frequent where it learnt."""
    num: int
    values: tuple[str, ...]


def probe(
    features: Float[np.ndarray, "N D"],
    labels: Sequence[str | None],
    prompts: Sequence[str],
    ridge: float = RIDGE,
    num_folds: int = NUM_FOLDS,
) -> Probe | None:
    """A ridge classifier in cross-validation by prompts; rows without a label take no part.

    None where a label has one value only, or there are fewer than two prompts.
    """
    rows = [i for i, label in enumerate(labels) if label is not None]
    values = sorted({str(labels[i]) for i in rows})
    names = list(dict.fromkeys(prompts[i] for i in rows))
    if len(values) < 2 or len(names) < 2:
        return None
    x = features[rows]
    y = np.array([values.index(str(labels[i])) for i in rows])
    # Prompts in an order of their own, so that data sorted by its labels gives no empty fold.
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = {names[place]: i % min(num_folds, len(names)) for i, place in enumerate(order)}
    fold = np.array([fold_of[prompts[i]] for i in rows])
    right = common = 0
    for held in np.unique(fold):
        train, test = fold != held, fold == held
        right += int(np.sum(_classify(x[train], y[train], x[test], len(values), ridge) == y[test]))
        common += int(np.sum(y[test] == np.bincount(y[train]).argmax()))
    return Probe(right / len(rows), common / len(rows), len(rows), tuple(values))


def _classify(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, num_values: int, ridge: float
) -> np.ndarray:
    """The likeliest value of new rows by least squares on one-hot labels."""
    mean, std = x.mean(0), x.std(0)
    scale = np.where(std > 0, std, 1.0)
    x, new = (x - mean) / scale, (new - mean) / scale
    targets = np.eye(num_values)[y]
    centre = targets.mean(0)
    # In the smaller of the two forms: D x D, or N x N.
    if x.shape[1] <= len(x):
        left = x.T @ x / len(x) + ridge / len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(left, x.T @ (targets - centre) / len(x))
    else:
        dual = x @ x.T + ridge * np.eye(len(x))
        weights = x.T @ np.linalg.solve(dual, targets - centre)
    return (new @ weights + centre).argmax(1)


def dissimilarities(features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " P"]:
    """Euclidean distances of all pairs of rows, P = N (N - 1) / 2."""
    i, j = np.triu_indices(len(features), 1)
    return distance_matrix(features, features)[i, j]


def ranks(values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """1 for the lowest; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2.0)[inverse]


def rho_a(first: Float[np.ndarray, " P"], second: Float[np.ndarray, " P"]) -> float:
    """Spearman's rank correlation, expected where ties are broken at random: 12 sum / (P^3 - P).

    nan for fewer than two pairs.
    """
    P = len(first)
    if P < 2:
        return float("nan")
    one, other = (ranks(values) - (P + 1) / 2.0 for values in (first, second))
    return float(12.0 * (one @ other) / (float(P) ** 3 - P))


def geo_topological(
    values: Float[np.ndarray, " P"], low: float, high: float
) -> Float[np.ndarray, " P"]:
    """Dissimilarities below the quantile `low` become 0, above `high` 1, linear between.

    What is near and what is far still counts, how near and how far does not.
    """
    least, most = np.quantile(values, [low, high])
    if most <= least:
        return (values > least).astype(np.float64)
    return np.clip((values - least) / (most - least), 0.0, 1.0)


def alikeness(
    first: Float[np.ndarray, "N D"],
    second: Float[np.ndarray, "N E"],
    low: float = 0.0,
    high: float = 1.0,
) -> float:
    """rho-a of the two dissimilarity matrices of the same answers; nan for fewer than three.

    With quantiles other than 0 and 1 of their geo-topological transforms: the topological variant.
    """
    if len(first) < 3:
        return float("nan")
    both = [dissimilarities(one) for one in (first, second)]
    if (low, high) != (0.0, 1.0):
        both = [geo_topological(one, low, high) for one in both]
    return rho_a(*both)


def labels_as_numbers(labels: Sequence[str | None]) -> Int[np.ndarray, " N"]:
    """Each value's place among the sorted ones; -1 for none."""
    values = sorted({label for label in labels if label is not None})
    return np.array([-1 if one is None else values.index(one) for one in labels], dtype=np.int64)
