"""What answers are compared by: a vector of length 1 each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlrl.types import Rollout


@dataclass(frozen=True)
class Features:
    """A function from an answer to numbers, and what it needs from a task."""

    function: Callable[[Rollout], np.ndarray | None]
    """[D], of any length; None or all 0 = there is nothing to compare."""
    num: int
    """D."""
    needs: frozenset[str] = frozenset()

    def of(self, rollout: Rollout) -> np.ndarray:
        """Float64 [D] of length 1; all 0 where there is nothing to compare."""
        found = self.function(rollout)
        if found is None:
            return np.zeros(self.num)
        vector = np.asarray(found, dtype=np.float64).reshape(self.num)
        length = float(np.linalg.norm(vector))
        return vector / length if length > 0 else np.zeros(self.num)
