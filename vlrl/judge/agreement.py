"""How good a judge is: metrics of its verdicts on pairs whose truth is known; pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vlrl.stats import bootstrap_mean, rank_ties_last


@dataclass(frozen=True)
class Judgement:
    """A judge's view of one pair."""

    id: str
    truth: float
    """1: the first is better, 0: the second, 0.5: a tie."""
    p: float
    """Probability that the first is better; the mean of both orders where both were judged."""
    first_order: float | None = None
    """The same with the pair in the given order."""
    second_order: float | None = None
    """The same with the pair swapped, mapped back to mean the first of the pair."""
    mass: float | None = None
    """Total probability of yes and no."""
    labels: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    scores: tuple[float, float] | None = None
    """What a judge of single candidates gave the first and the second."""


TiedTop = Literal["lost", "shared"]
"""What a right answer gets that shares the first place: nothing, or its share."""


def correct(one: Judgement, tie_width: float = 0.0, *, equal_scores: float = 0.5) -> float | None:
    """1 right, 0 wrong, 0.5 undecided; None for true ties.

    |p - 0.5| <= tie_width is undecided: no better than tossing a coin. equal_scores: what two equal
    scores of single candidates count.
    """
    if one.truth == 0.5:
        return None
    if one.scores is not None and one.scores[0] == one.scores[1]:
        return equal_scores
    if abs(one.p - 0.5) <= tie_width:
        return 0.5
    return float((one.p > 0.5) == (one.truth == 1.0))


def pairwise_accuracy(
    judgements: Sequence[Judgement], *, equal_scores: float = 0.5, num_bootstrap: int = 2000
) -> dict[str, float]:
    """Accuracy without true ties, with a bootstrap interval; {} where no pair is left."""
    found = [correct(one, equal_scores=equal_scores) for one in judgements]
    values = [value for value in found if value is not None]
    return bootstrap_mean(values, num_bootstrap) if values else {}


def tie_accuracy(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Accuracy with true ties, at the width of |p - 0.5| that suits the judge best.

    The rule of tie calibration (Deutsch et al. 2023, arXiv 2305.14324), for pairs: below the
    width a pair is called a tie. The width is fitted to these very pairs, so this slightly
    overestimates the judge. {} where no pair is a true tie.
    """
    if not judgements or not any(one.truth == 0.5 for one in judgements):
        return {}
    truth = np.array([np.sign(one.truth - 0.5) for one in judgements])
    lean = np.array([one.p - 0.5 for one in judgements])
    best, width = -1.0, 0.0
    for candidate in [-1.0, *sorted(set(np.abs(lean).tolist()))]:
        said = np.where(np.abs(lean) <= candidate, 0.0, np.sign(lean))
        right = float((said == truth).mean())
        if right > best:
            best, width = right, candidate
    return {"mean": best, "tie_width": max(width, 0.0), "num_ties": float((truth == 0).sum())}


def order_consistency(judgements: Sequence[Judgement]) -> dict[str, float]:
    """How much the verdict depends on the order; {} where only one order was judged.

    consistent: share of pairs with the same verdict in both orders. first_place: mean of how much
    more likely a candidate is to win because it comes first; 0 = no bias.
    """
    both = [
        (one.first_order, one.second_order)
        for one in judgements
        if one.first_order is not None and one.second_order is not None
    ]
    if not both:
        return {}
    same = [float((a > 0.5) == (b > 0.5)) for a, b in both]
    return {
        "consistent": float(np.mean(same)),
        "first_place": float(np.mean([0.5 * (a - b) for a, b in both])),
        "num": float(len(both)),
    }


def calibration(judgements: Sequence[Judgement], num_bins: int = 10) -> dict[str, float]:
    """Expected calibration error, Brier score and log loss of p, without true ties.

    Every pair counts once, as the probability that the better one wins; bins of equal width in it.
    """
    right = [one.p if one.truth == 1.0 else 1.0 - one.p for one in judgements if one.truth != 0.5]
    if not right:
        return {}
    p = np.array(right)
    confidence, hit = np.maximum(p, 1 - p), (p > 0.5).astype(float)
    bins = np.minimum(((confidence - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
    error = sum(
        abs(float(confidence[bins == b].mean()) - float(hit[bins == b].mean()))
        * float((bins == b).mean())
        for b in range(num_bins)
        if (bins == b).any()
    )
    logs = -np.log(np.clip(p, 1e-12, 1.0))
    return {
        "ece": float(error),
        "brier": float(((1 - p) ** 2).mean()),
        "log_loss": float(logs.mean()),
    }


def one_against_many(
    judgements: Sequence[Judgement], *, tied_top: TiedTop = "lost", num_bootstrap: int = 2000
) -> dict[str, dict[str, float]]:
    """Metrics over groups that share the better one, or {}.

    accuracy: it beats every other one. With others on a par with it in the first place it has lost
    (RewardMATH, arXiv 2410.01729), or counts 1 / how many share it (RewardBench 2, 2506.01937).
    mrr: 1 / its rank, ties rank it last (RewardMATH).
    """
    groups: dict[str, list[float]] = {}
    for one in judgements:
        if one.group and one.truth != 0.5:
            groups.setdefault(one.group, []).append(_lead(one))
    if not groups:
        return {}
    ranks = [rank_ties_last(leads) for leads in groups.values()]
    best = [float(rank == 1) for rank in ranks]
    if tied_top == "shared":
        best = [
            0.0 if min(leads) < 0 else 1.0 / (1 + sum(lead == 0 for lead in leads))
            for leads in groups.values()
        ]
    return {
        "accuracy": bootstrap_mean(best, num_bootstrap),
        "mrr": bootstrap_mean([1.0 / rank for rank in ranks], num_bootstrap),
    }


def _lead(one: Judgement) -> float:
    """How far the better one is ahead, in scores or in probability; only its sign matters."""
    lead = one.p - 0.5 if one.scores is None else one.scores[0] - one.scores[1]
    return lead if one.truth == 1.0 else -lead


def p_of_scores(first: float, second: float) -> float:
    """Bradley-Terry's probability that the first of two scores wins."""
    x = first - second
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
