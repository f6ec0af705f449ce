"""From comparisons inside a group to one number each; pure functions of a matrix.

D [G, G] holds signed preferences: D_ij in [-1, 1] (or any difference) is how much i is preferred
to j, D_ji = -D_ij, 0 on the diagonal, nan where the two were not compared. P = (D + 1) / 2 are
the probabilities that i wins.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def check_antisymmetric(D: Array) -> None:
    """Raises ValueError where D_ij is not -D_ji."""
    if D.ndim != 2 or D.shape[0] != D.shape[1]:
        raise ValueError(f"a matrix of comparisons is square, not {D.shape}")
    if not np.allclose(D, -D.T, atol=1e-9, equal_nan=True):
        raise ValueError("comparisons are antisymmetric: D_ij = -D_ji")


def mean_preference(D: Array) -> Array:
    """Mean of D_ij over the others that i was compared with, [G]; nan where there is none."""
    return _over_others(D, D)


def win_rate(D: Array) -> Array:
    """Share of its comparisons that i wins, a tie counts half, [G]; nan where there is none."""
    return _over_others(D, 0.5 * (np.sign(D) + 1.0))


def _over_others(D: Array, values: Array) -> Array:
    compared = ~np.isnan(D) & ~np.eye(len(D), dtype=bool)
    count = compared.sum(1)
    # Sorted: the sum is then the same to the last bit in whatever order a group comes.
    total = np.sort(np.where(compared, values, 0.0), axis=1).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def pairwise_advantage(D: Array, eps: float = 1e-6) -> Array:
    """Think-RM's advantage from pairs (arXiv 2505.16265): mean of D_ij over the group's
    deviation, [G].

    A_i = (1/G sum_j D_ij) / sqrt(sum_ij D_ij^2 / (2 G (G - 1)) + eps). With D_ij = r_i - r_j this
    is (r_i - mean) / std, unbiased std: GRPO's z-score. All pairs must have been compared.
    """
    if np.isnan(D).any():
        raise ValueError("the pairwise advantage needs every pair of the group")
    G = len(D)
    if G < 2:
        return np.zeros(G)
    variance = float(np.sort(D**2, axis=None).sum()) / (2 * G * (G - 1))
    spread = np.sqrt(variance + eps)
    return np.sort(D, axis=1).mean(1) / spread if spread > 0 else np.zeros(G)


def bradley_terry(P: Array, ridge: float = 0.01, num_steps: int = 100) -> Array:
    """Strengths s, sum 0, for which sigmoid(s_i - s_j) comes nearest to P_ij, [G].

    Maximises sum_ij P_ij log sigmoid(s_i - s_j) - ridge / 2 |s|^2 by Newton's method. The ridge
    keeps strengths finite where one always wins, and settles those that were not compared at 0.
    Comparisons with margins need not be transitive: sorting by them gives no order, a fit does
    (HERON).
    """
    weight = np.where(np.isnan(P), 0.0, P)
    np.fill_diagonal(weight, 0.0)
    G = len(weight)
    s = np.zeros(G)
    both = weight + weight.T
    for _ in range(num_steps):
        won = 1.0 / (1.0 + np.exp(-(s[:, None] - s[None, :])))
        gradient = (weight - both * won).sum(1) - ridge * s
        curvature = both * won * (1.0 - won)
        hessian = np.diag(curvature.sum(1) + ridge) - curvature
        step = np.linalg.solve(hessian, gradient)
        # Newton may leap far off from one-sided comparisons: at most two units at a time.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        s = s + step
        if float(np.abs(step).max()) < 1e-10:
            break
    return s - s.mean()


def differences(values: Array) -> Array:
    """D_ij = r_i - r_j of scalar rewards, [G] -> [G, G]; nan rewards give nan rows."""
    return values[:, None] - values[None, :]
