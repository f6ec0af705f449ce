"""What an evaluation says of its samples: one row each, and their means."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vlrl.protocols import Reward, Task
from vlrl.stats import bootstrap_mean, macro_mean
from vlrl.train.scoring import measured
from vlrl.types import Rollout


def rows_of(
    task: Task, rollouts: Sequence[Rollout], metrics: Mapping[str, Reward]
) -> list[dict[str, Any]]:
    """One row per rollout: the task's metrics and `metrics`, None where one does not apply.

    Only texts are written into rows; any other `output` is None. The part of a benchmark that a
    row counts for (`Reward.macro_group`) is in the row's `macro_groups`.
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
        groups = {name: metric.macro_group(rollout) for name, metric in metrics.items()}
        if groups := {name: group for name, group in groups.items() if group is not None}:
            rows[-1]["macro_groups"] = groups
    return rows


def summarise(rows: Sequence[Mapping[str, Any]], num_bootstrap: int) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals, overall and by stratum; with the counts.

    Of a metric in the rows' `macro_groups` also the mean over groups, as `<metric>_overall`.
    """
    columns: dict[str, list[float]] = defaultdict(list)
    strata: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    verdicts: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for row in rows:
        for name, value in row["metrics"].items():
            if value is None:
                continue
            columns[name].append(value)
            if name in row.get("macro_groups", ()):
                verdicts[name].append((row["macro_groups"][name], bool(value)))
            for key, group in row["strata"].items():
                strata[key][group][name].append(value)
    metrics = {name: bootstrap_mean(values, num_bootstrap) for name, values in columns.items()}
    for name, pairs in verdicts.items():
        groups, right = zip(*pairs, strict=True)
        metrics[f"{name}_overall"] = macro_mean(groups, right, num_bootstrap)
    return {
        "num_samples": len(rows),
        "overall": metrics,
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
