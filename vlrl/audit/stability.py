"""How far the best policy moves when the reward changes a little.

Source: The Policy Cliff (arXiv 2507.20150): without an entropy term the best policy jumps where
answers are tied; with one it moves at most in proportion to the change. Here the answers of a
prompt are all that there is, so that policy is known exactly: p(answer) exp(reward / beta),
normalised, with p the answer's share of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vlrl.audit.distance import rows_by_group

TIED = 1e-9
"""Gap, relative to the larger reward, below which two answers are equally good."""


def tilted(
    rewards: Float[np.ndarray, " A"], reference: Float[np.ndarray, " A"], beta: float
) -> Float[np.ndarray, " A"]:
    """The policy that maximises E[reward] - beta KL(policy, reference)."""
    weights = reference * np.exp((rewards - rewards.max()) / beta)
    return weights / weights.sum()


def greedy(
    rewards: Float[np.ndarray, " A"], reference: Float[np.ndarray, " A"]
) -> Float[np.ndarray, " A"]:
    """The policy without the entropy term: the reference, restricted to the best answers."""
    weights = np.where(is_best(rewards), reference, 0.0)
    return weights / weights.sum()


def is_best(rewards: Float[np.ndarray, " A"]) -> np.ndarray:
    """Which answers are as good as the best one, bool [A]."""
    best = rewards.max()
    return rewards >= best - TIED * max(1.0, abs(float(best)))


def total_variation(first: Float[np.ndarray, " A"], second: Float[np.ndarray, " A"]) -> float:
    """Half the sum of absolute differences, in [0, 1]."""
    return 0.5 * float(np.abs(first - second).sum())


def tv_bound(change: Float[np.ndarray, " A"], beta: float) -> float:
    """Largest total variation between tilted policies whose rewards differ by `change`.

    min(1, max |change| / (2 beta)), whatever the reference: along the way from one reward to the
    other the probability of any set of answers changes by cov(change, set) / beta, and no such
    covariance is larger than half of max |change|.
    """
    return min(1.0, float(np.abs(change).max(initial=0.0)) / (2 * beta))


@dataclass(frozen=True)
class PromptStability:
    """One prompt under all perturbations of its reward."""

    group: int
    num_answers: int
    """Different ones."""
    num_best: int
    """Answers that share the best reward; two or more are a tie."""
    gap: float
    """From the best reward to the next one; 0 if all are alike."""
    moved: float
    """Largest total variation with the entropy term."""
    bound: float
    """That perturbation's bound."""
    ratio: float
    """Largest total variation over its bound, over the perturbations that change anything."""
    jumped: float
    """Largest total variation without the entropy term."""

    @property
    def is_tied(self) -> bool:
        """Whether several answers share the best reward and others do not."""
        return 1 < self.num_best < self.num_answers

    @property
    def is_flipped(self) -> bool:
        """Whether a perturbation makes another answer the best one, where there is one."""
        return self.num_best == 1 and self.jumped > 0


def stability(
    rewards: Float[np.ndarray, " N"],
    perturbed: Float[np.ndarray, "K N"],
    group: Int[np.ndarray, " N"],
    answer: Int[np.ndarray, " N"],
    beta: float,
) -> list[PromptStability]:
    """Each prompt with two or more different answers, in the order of groups.

    answer: the same number for answers that read the same; their rewards are averaged. nan rewards
    take no part.
    """
    found = []
    for g, rows in rows_by_group(group):
        rows = rows[np.isfinite(rewards[rows]) & np.isfinite(perturbed[:, rows]).all(0)]
        names, inverse, counts = np.unique(answer[rows], return_inverse=True, return_counts=True)
        if len(names) < 2:
            continue
        own, *others = (
            np.bincount(inverse, weights=values[rows]) / counts for values in (rewards, *perturbed)
        )
        found.append(_of_prompt(g, own, others, counts / counts.sum(), beta))
    return found


def _of_prompt(
    group: int, own: np.ndarray, others: Sequence[np.ndarray], p: np.ndarray, beta: float
) -> PromptStability:
    moved = bound = ratio = jumped = 0.0
    for other in others:
        limit = tv_bound(other - own, beta)
        distance = total_variation(tilted(own, p, beta), tilted(other, p, beta))
        if distance >= moved:
            moved, bound = distance, limit
        if limit > 0:
            ratio = max(ratio, distance / limit)
        jumped = max(jumped, total_variation(greedy(own, p), greedy(other, p)))
    best = is_best(own)
    gap = 0.0 if best.all() else float(own.max() - own[~best].max())
    return PromptStability(group, len(own), int(best.sum()), gap, moved, bound, ratio, jumped)


@dataclass(frozen=True)
class Tilt:
    """All prompts at one beta."""

    beta: float
    moved: float
    """Mean of the largest total variations with the entropy term."""
    bound: float
    """Mean of their bounds."""
    reward: float
    """Mean reward of the tilted policy: what stability costs."""


def tilts(
    rewards: Float[np.ndarray, " N"],
    perturbed: Float[np.ndarray, "K N"],
    group: Int[np.ndarray, " N"],
    answer: Int[np.ndarray, " N"],
    betas: Sequence[float],
) -> list[Tilt]:
    """The same at several betas, averaged over prompts; nothing without a prompt."""
    found = []
    for beta in betas:
        prompts = stability(rewards, perturbed, group, answer, beta)
        if not prompts:
            continue
        known = {one.group for one in prompts}
        gains = []
        for g, rows in rows_by_group(group):
            if g in known:
                own = rewards[rows][np.isfinite(rewards[rows])]
                share = np.full(len(own), 1.0 / len(own))
                gains.append(float(tilted(own, share, beta) @ own))
        moved = float(np.mean([one.moved for one in prompts]))
        bound = float(np.mean([one.bound for one in prompts]))
        found.append(Tilt(beta, moved, bound, float(np.mean(gains))))
    return found
