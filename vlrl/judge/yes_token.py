"""A yes/no answer as a number: the formulas of the yes-token reward.

RewardDance (arXiv 2509.08826): r = P("yes" | candidate, reference, caption, criteria). All forms
are functions of two log-probs over the whole vocabulary, summed over the spellings of each word:

    probability       p_yes                                    in (0, 1)
    odds              p_yes / (p_yes + p_no) = sigmoid(d)      in (0, 1)
    logit_difference  d = log p_yes - log p_no                 any number

Adding a constant to all logits changes none of them; all rise strictly with the yes logit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_LOGPROB = 1e-3
"""What rounding may put a log-prob above 0."""
MAX_MASS = 1.01
"""What rounding may make of the probability of all tokens together."""

Form = Literal["probability", "odds", "logit_difference"]


@dataclass(frozen=True)
class Reading:
    """A judge's answer to one question."""

    yes: float
    """Log-prob of all spellings of yes together, nats."""
    no: float
    """Of all spellings of no."""
    reasoning: str = ""
    """What it wrote first, where it was told to reason."""
    cut: bool = False
    """The reasoning hit its limit, and the answer was read without the end of it."""

    @property
    def mass(self) -> float:
        """Total probability of yes and no; low where the judge wanted to say something else."""
        return math.exp(self.yes) + math.exp(self.no)


def problem_of(reading: Reading) -> str | None:
    """Why a reading cannot be the log-probs of two words; None where it can."""
    for name, logp in (("yes", reading.yes), ("no", reading.no)):
        if not math.isfinite(logp) or logp > MAX_LOGPROB:
            return f"the log-prob of {name} is {logp:g}; a log-prob is finite and at most 0"
    if reading.mass > MAX_MASS:
        return f"yes and no together have the probability {reading.mass:g}, which is above 1"
    return None


def value_of(reading: Reading, form: Form) -> float:
    """A reading as a number."""
    if form == "probability":
        return math.exp(reading.yes)
    difference = reading.yes - reading.no
    return sigmoid(difference) if form == "odds" else difference


def in_both_orders(first: float, second: float, form: Form) -> float:
    """A candidate against a reference, judged in both orders; antisymmetric in the two.

    first: the value with the candidate in the first place ("is the first better than the second?").
    second: the value with the two swapped, where a yes speaks for the reference.
    With both orders r(a, b) + r(b, a) = 1, or 0 for the logit difference, whatever the judge's
    bias towards one position.
    """
    if form == "logit_difference":
        return 0.5 * (first - second)
    return 0.5 * (first + 1.0 - second)


def log_sum(logs: Sequence[float]) -> float:
    """The log-prob of several tokens together."""
    high = max(logs)
    return high + math.log(sum(math.exp(one - high) for one in logs))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def spellings(words: tuple[str, ...]) -> tuple[str, ...]:
    """Spellings that may be tokens: lower case, capitalised, upper case, also after a space."""
    forms = {f for word in words for f in (word, word.lower(), word.capitalize(), word.upper())}
    return tuple(sorted(space + form for form in forms for space in ("", " ")))
