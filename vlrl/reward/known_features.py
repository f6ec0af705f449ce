"""How near an answer's features are to known ones, as a share that is calibrated on these.

Source: MRMBench (arXiv 2511.12464) takes the distance to the nearest of the labels' centroids for a
reward model's confidence and drops answers beyond a threshold, which has the scale of one model's
features. Here the threshold is a quantile of the known answers' own distances.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from vlrl.errors import RewardError

MIN_KNOWN = 2


def distance_matrix(
    one: Float[np.ndarray, "N D"], other: Float[np.ndarray, "M D"]
) -> Float[np.ndarray, "N M"]:
    """Euclidean distances."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0.0))


class KnownFeatures:
    """Features of answers on which a reward is trusted, with a label each or without."""

    def __init__(
        self, features: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"] | None = None
    ) -> None:
        """labels: -1 for none; with labels distances are to their centroids. ValueError for few."""
        if labels is not None:
            features, labels = features[labels >= 0], labels[labels >= 0]
        if len(features) < MIN_KNOWN:
            raise ValueError(f"{len(features)} known answers, at least {MIN_KNOWN} are needed")
        self.features, self.labels = features, labels

    @property
    def num_features(self) -> int:
        """D."""
        return int(self.features.shape[1])

    @cached_property
    def _centroids(self) -> tuple[np.ndarray, np.ndarray]:
        """[K, D], and how many known answers each is the mean of."""
        assert self.labels is not None
        _, place, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), self.num_features))
        np.add.at(sums, place, self.features)
        return sums / counts[:, None], counts

    def distances(self, features: Float[np.ndarray, "M D"]) -> Float[np.ndarray, " M"]:
        """To the nearest centroid where there are labels, else to the nearest known answer."""
        known = self.features if self.labels is None else self._centroids[0]
        return distance_matrix(features, known).min(1)

    def distances_without_self(self) -> Float[np.ndarray, " N"]:
        """Of each known answer to the others; inf for the only one of its label and no other."""
        if self.labels is None:
            distances = distance_matrix(self.features, self.features)
            np.fill_diagonal(distances, np.inf)
            return distances.min(1)
        centroids, counts = self._centroids
        distances = distance_matrix(self.features, centroids)
        _, place = np.unique(self.labels, return_inverse=True)
        own = (np.arange(len(place)), place)
        # Without the answer its centroid lies n / (n - 1) as far; of one answer alone nowhere.
        num = counts[place]
        farther = distances[own] * num / np.maximum(num - 1, 1)
        distances[own] = np.where(num > 1, farther, np.inf)
        return distances.min(1)

    @cached_property
    def own_distances(self) -> Float[np.ndarray, " N"]:
        """What other answers' distances are compared with, sorted."""
        found = self.distances_without_self()
        return np.sort(found[np.isfinite(found)])

    def confidence(self, features: Float[np.ndarray, "M D"]) -> Float[np.ndarray, " M"]:
        """Share of known answers that lie at least as far from the others, in [0, 1]."""
        own = self.own_distances
        nearer = np.searchsorted(own, self.distances(features), "left")
        return 1.0 - nearer / max(1, len(own))


def save_known(path: Path, features: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Write features [N, D], and labels [N] where there are any."""
    import torch

    from vlrl.tensor_files import write_tensors

    tensors = {"features": torch.from_numpy(features).float()}
    if labels is not None:
        tensors["labels"] = torch.from_numpy(labels).long()
    write_tensors(path, tensors)


def load_known(path: Path) -> KnownFeatures:
    """What `save_known` wrote; RewardError that names the file."""
    from vlrl.tensor_files import read_tensors

    try:
        tensors = read_tensors(path)
        labels = tensors["labels"].numpy() if "labels" in tensors else None
        return KnownFeatures(tensors["features"].double().numpy(), labels)
    except (ValueError, KeyError) as error:
        raise RewardError(
            f"{path}: holds no known features: {error}; `vlrl audit` writes such files"
        ) from error
