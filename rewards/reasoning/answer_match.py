"""Whether the final answer is the true one."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="1 if the final answer is the true one, as its kind compares, else 0",
    source="RewardMap (arXiv 2510.02240) and GRiP, accuracy reward",
    needs=("answer",),
)
def answer_match(rollout: Rollout, *, well_formed: bool = False) -> float:
    """1 for a right answer; 0 also for one that could not be read, or that says two things.

    well_formed: an answer outside the requested format counts as wrong.
    """
    answer = rollout.parsed
    if answer is None or not answer.correct:
        return 0.0
    return float(answer.well_formed or not well_formed)
