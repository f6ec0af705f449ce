"""Whether the answer is exactly in the requested format."""

from __future__ import annotations

from vlrl.reward.functions import reward_function
from vlrl.types import Rollout


@reward_function(
    range=(0.0, 1.0),
    formula="1 if the whole answer is in the requested format, else 0",
    source=(
        "GUI-G2 (arXiv 2507.15846), format reward; here ASCII digits only, and white space and "
        "end tokens around the answer do not count"
    ),
    needs=("format",),
)
def answer_format(rollout: Rollout) -> float:
    """1 for a well-formed answer; 0 also for one that could not be read."""
    return float(rollout.parsed is not None and rollout.parsed.well_formed)
