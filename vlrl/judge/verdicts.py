"""A judge's view of known pairs, in both orders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vlrl.errors import RewardError
from vlrl.judge.agreement import Judgement, p_of_scores
from vlrl.judge.data.preference import Preference
from vlrl.judge.protocol import Judge
from vlrl.judge.question import Ask, ImageBook, Questions
from vlrl.judge.yes_token import in_both_orders, value_of

PAIRS_A_CALL = 64


def judged(
    judge: Judge, questions: Questions, pairs: Sequence[Preference], *, both_orders: bool = True
) -> list[Judgement]:
    """One judgement per pair, from the odds of yes against no."""
    found = []
    for start in range(0, len(pairs), PAIRS_A_CALL):
        part = pairs[start : start + PAIRS_A_CALL]
        book = ImageBook()
        asks: list[Ask] = []
        for pair in part:
            asks.append(_compared(questions, book, pair, swap=False))
            if both_orders:
                asks.append(_compared(questions, book, pair, swap=True))
        readings = judge.ask(book, asks)
        step = 2 if both_orders else 1
        for place, pair in enumerate(part):
            own = readings[step * place : step * (place + 1)]
            values = [value_of(one, "odds") for one in own]
            p = in_both_orders(values[0], values[1], "odds") if both_orders else values[0]
            second = 1 - values[1] if both_orders else None
            mass = sum(one.mass for one in own) / len(own)
            found.append(
                Judgement(
                    pair.id, truth_of(pair), p, values[0], second, mass, labels_of(pair), pair.group
                )
            )
    return found


def judged_by_scores(
    pairs: Sequence[Preference], scores: Sequence[tuple[float, float]]
) -> list[Judgement]:
    """Judgements of a scalar reward: Bradley-Terry's probability of (first, second) scores.

    Raises RewardError for a score that is not finite.
    """
    for pair, own in zip(pairs, scores, strict=True):
        if not all(map(math.isfinite, own)):
            raise RewardError(f"the judge's scores for pair {pair.id!r} are {own}, not finite")
    return [
        Judgement(
            pair.id,
            truth_of(pair),
            p_of_scores(*own),
            labels=labels_of(pair),
            group=pair.group,
            scores=own,
        )
        for pair, own in zip(pairs, scores, strict=True)
    ]


def truth_of(pair: Preference) -> float:
    """1 if the first is preferred, 0 if the second, 0.5 for a tie."""
    return {1: 1.0, 2: 0.0, 0: 0.5}[pair.preferred]


def labels_of(pair: Preference) -> dict[str, str]:
    """What metrics are split by."""
    return {k: v for k, v in (("kind", pair.kind), ("criterion", pair.criterion)) if v}


def _compared(questions: Questions, book: ImageBook, pair: Preference, *, swap: bool) -> Ask:
    first, second = (pair.second, pair.first) if swap else (pair.first, pair.second)
    ask = questions.compare(book, pair.caption, first, second, context=pair.context)
    return replace(ask, sample=pair.id)
