"""Learning-rate schedules as a factor of the step."""

from __future__ import annotations

import math

from vlrl.config.schema import OptimConfig


def lr_factor(step: int, options: OptimConfig, num_steps: int) -> float:
    """Factor of the base learning rate at an optimizer step (0-based), in [0, 1].

    Warm-up is linear from 1 / num_warmup_steps; after it the factor stays, or falls to
    `min_lr_ratio` at the last step linearly or along half a cosine.
    """
    warmup = options.num_warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
    floor = options.min_lr_ratio
    if options.schedule == "linear":
        return floor + (1 - floor) * (1 - progress)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
