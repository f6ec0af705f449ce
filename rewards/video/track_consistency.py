"""Whether the boxes cover exactly the span that the answer names (STVG-o1's R_c)."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="1 if every list of boxes numbers exactly t_s, t_s + 1, ..., t_e, in order, else 0",
    source="STVG-o1 (arXiv 2511.21375), R_c",
    needs=("consistent",),
)
def track_consistency(rollout: Rollout) -> float:
    """0 for gaps, repeats, disorder, a box too many, a reversed span and unreadable answers."""
    return float(rollout.parsed is not None and rollout.parsed.consistent)
