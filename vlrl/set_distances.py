"""Distances between two sets of features: FID and KID, each in whatever feature space it is given.

Figures of two feature spaces never compare: name the space with the number.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), unbiased covariances; [N, D], [M, D].

    Source: FID (Heusel et al., arXiv 1706.08500), for any features. With fewer images than
    dimensions the covariances are singular and the figure is biased upwards: report N.
    """
    a, b = _checked(a), _checked(b)
    shift = a.mean(0) - b.mean(0)
    left, right = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr (A B)^(1/2) = sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric.
    values, vectors = np.linalg.eigh(left)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ right @ root).clip(min=0)).sum()
    return float(shift @ shift + np.trace(left) + np.trace(right) - 2 * cross)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased MMD^2 under the kernel (x.y / D + 1)^3; [N, D], [M, D]. May come out below 0.

    Source: KID (Binkowski et al., arXiv 1801.01401). (The figure that 3DGen-R1's code prints as
    "dinov2_kd" is the mean of an RBF kernel between the sets: a similarity, no distance.)
    """
    a, b = _checked(a), _checked(b)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return float((k.sum() - np.trace(k)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def _checked(x: np.ndarray) -> np.ndarray:
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features are [N, D] of two images or more, not {list(x.shape)}")
    return x.astype(np.float64)
