"""Whether an answer about a video is exactly in the requested format (STVG-o1's R_f)."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="1 if the whole answer is in the format that the task asks for, else 0",
    source="STVG-o1 (arXiv 2511.21375), R_f; the paper's regular expression is not published",
    needs=("format",),
)
def track_format(rollout: Rollout) -> float:
    """1 for a well-formed answer; a truncated or unreadable one is not."""
    return float(rollout.parsed is not None and rollout.parsed.well_formed)
