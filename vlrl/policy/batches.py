"""Sampling in batches of whole groups, each passed on as soon as it is complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from vlrl.protocols import Ready
from vlrl.types import Rollout, Sample

Part = TypeVar("Part")


def in_batches(
    samples: Sequence[Sample],
    num_each: int,
    num_rows: int,
    sample_batch: Callable[[Sequence[Sample], int], tuple[list[Rollout], Part]],
    ready: Ready | None,
) -> tuple[list[Rollout], list[Part]]:
    """All rollouts and the trajectory of every batch of about `num_rows` rows.

    sample_batch: samples, and the index of the first one's group -> rollouts, trajectory.
    """
    size = max(1, num_rows // num_each)
    rollouts: list[Rollout] = []
    parts: list[Part] = []
    for start in range(0, len(samples), size):
        made, part = sample_batch(samples[start : start + size], start)
        rollouts += made
        parts.append(part)
        if ready is not None:
            ready(made)
    return rollouts, parts
