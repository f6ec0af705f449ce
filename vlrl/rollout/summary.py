"""What an evaluation says of its samples: a row each, and their means."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vlrl.measure.stats import bootstrap_mean
from vlrl.protocols import Reward, Task
from vlrl.rollout.scoring import measured
from vlrl.types import Rollout


def rows_of(
    task: Task, rollouts: Sequence[Rollout], metrics: Mapping[str, Reward]
) -> list[dict[str, Any]]:
    """A row a rollout: the task's metrics and `metrics` (by name), None where one does not apply.

    Pictures and shapes are not written into rows: `output` is text or None.
    """
    columns = {**task.metrics(rollouts), **measured(metrics, rollouts)}
    rows = []
    for i, rollout in enumerate(rollouts):
        values = {name: float(column[i]) for name, column in columns.items()}
        rows.append(
            {
                "id": rollout.sample.id,
                "output": rollout.output if isinstance(rollout.output, str) else None,
                "finish": rollout.finish.value,
                "metrics": {name: None if math.isnan(v) else v for name, v in values.items()},
                "strata": dict(task.strata(rollout.sample)),
            }
        )
    return rows


def summarise(rows: Sequence[Mapping[str, Any]], num_bootstrap: int) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals, overall and by stratum; the counts stand beside."""
    columns: dict[str, list[float]] = defaultdict(list)
    strata: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        for name, value in row["metrics"].items():
            if value is None:
                continue
            columns[name].append(value)
            for key, group in row["strata"].items():
                strata[key][group][name].append(value)
    return {
        "num_samples": len(rows),
        "overall": {
            name: bootstrap_mean(values, num_bootstrap) for name, values in columns.items()
        },
        "strata": {
            key: {
                group: {
                    name: {"mean": math.fsum(values) / len(values), "num": len(values)}
                    for name, values in named.items()
                }
                for group, named in sorted(groups.items())
            }
            for key, groups in sorted(strata.items())
        },
    }
