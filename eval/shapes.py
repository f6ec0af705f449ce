"""Evaluation of text to 3D: figures a sample, by group, and distances between sets of views."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vlrl.errors import DataError
from vlrl.measure.set_distances import frechet_distance, kernel_distance
from vlrl.measure.stats import bootstrap_mean
from vlrl.protocols import Policy, Reward, Task
from vlrl.reward.tree import score
from vlrl.shapes.surface import surface_of
from vlrl.types import Rollout, Sample

Embed = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Pictures, uint8 [H, W, 3] each, to features [N, D]."""


def answers(
    policy: Policy, task: Task, samples: Sequence[Sample], *, batch_size: int, seed: int | None
) -> list[Rollout]:
    """One parsed answer a sample; greedy where there is no seed."""
    found: list[Rollout] = []
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        rollouts, _ = policy.sample(part, 1, seed=seed or 0, greedy=seed is None)
        for rollout in rollouts:
            rollout.parsed = task.parse(rollout.sample, rollout.output)
        found += rollouts
    return found


def figures(
    task: Task, rollouts: Sequence[Rollout], metrics: Mapping[str, Reward], num_bootstrap: int
) -> dict[str, Any]:
    """Means with intervals, overall and by the task's groups (MME-3DR's categories, say)."""
    columns = dict(task.metrics(rollouts))
    for name, metric in metrics.items():
        values = (one.value for one in score(metric, rollouts))
        columns[name] = [math.nan if value is None else value for value in values]
    groups: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for name, column in columns.items():
        for rollout, value in zip(rollouts, column, strict=True):
            if not math.isnan(value):
                for key, group in task.strata(rollout.sample).items():
                    groups[key][group][name].append(value)
    kept = {name: [v for v in column if not math.isnan(v)] for name, column in columns.items()}
    return {
        "num_samples": len(rollouts),
        "overall": {n: bootstrap_mean(v, num_bootstrap) for n, v in kept.items() if v},
        "groups": {
            key: {
                group: {n: {"mean": math.fsum(v) / len(v), "num": len(v)} for n, v in named.items()}
                for group, named in sorted(found.items())
            }
            for key, found in sorted(groups.items())
        },
    }


def set_distances(task: Any, rollouts: Sequence[Rollout], embed: Embed) -> dict[str, float]:
    """FID and KID of all answers' views against all references' views, drawn alike.

    Answers that could not be read, or are empty, count as white pictures. DataError where fewer
    than two samples have a reference.
    """
    made: list[np.ndarray] = []
    wanted: list[np.ndarray] = []
    for rollout in rollouts:
        shape = rollout.sample.target.shape
        if shape is None:
            continue
        views = task.draw(surface_of(shape))
        wanted += list(views)
        made += list(np.full_like(views, 255) if rollout.parsed is None else rollout.parsed.views)
    if len(wanted) < 2:
        raise DataError("FID and KID need two samples with a reference, or more")
    a, b = embed(made), embed(wanted)
    return {
        "fid": frechet_distance(a, b),
        "kid": kernel_distance(a, b),
        "num_views": float(len(wanted)),
        "num_dims": float(a.shape[1]),
    }
