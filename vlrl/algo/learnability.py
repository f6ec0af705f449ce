"""Which prompts have most to teach: Sampling for Learnability (arXiv 2408.15099)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def shares(success: Float[np.ndarray, " N"], floor: float) -> Float[np.ndarray, " N"]:
    """Probability of each prompt, p (1 - p) normalised, of which `floor` is dealt out evenly.

    success: p, 0 to 1. Even shares where nothing is left to learn. LILO (arXiv 2502.12272) uses
    the weight for language models; the floor is ours.
    """
    weight = success * (1.0 - success)
    total, even = weight.sum(), np.full(len(success), 1.0 / len(success))
    return even if total <= 0 else (1.0 - floor) * weight / total + floor * even
