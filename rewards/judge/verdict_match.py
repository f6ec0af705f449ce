"""Whether the judge's verdict is right."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="1 if the verdict is the true one, else 0",
    source="UnifiedReward-Think (arXiv 2505.03318)",
    needs=("verdict",),
)
def verdict_match(rollout: Rollout, *, consistent: bool = False) -> float:
    """1 for the right verdict, 0 for the wrong one or none.

    consistent: a verdict against the sum of the judge's own scores counts as none.
    """
    answer = rollout.parsed
    if answer is None or answer.verdict != rollout.sample.target.verdict:
        return 0.0
    return float(not (consistent and answer.contradicts))
