"""What an evaluation says of its samples: a row each, and their means."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vlrl.image.geneval import overall
from vlrl.protocols import Reward, Task
from vlrl.stats import bootstrap_mean
from vlrl.train.scoring import measured
from vlrl.types import Rollout


def rows_of(
    task: Task, rollouts: Sequence[Rollout], metrics: Mapping[str, Reward]
) -> list[dict[str, Any]]:
    """A row a rollout: the task's metrics and `metrics` (by name), None where one does not apply.

    Images and shapes are not written into rows: `output` is text or None. A metric whose
    benchmark counts every task once, however many samples it has, says so by `task_of(rollout)`,
    the task's name: it stands in the row's `tasks`.
    """
    task_of = {n: m.task_of for n, m in metrics.items() if hasattr(m, "task_of")}
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
        tasks = {name: of(rollout) for name, of in task_of.items()}
        if tasks := {name: one for name, one in tasks.items() if one is not None}:
            rows[-1]["tasks"] = tasks
    return rows


def summarise(rows: Sequence[Mapping[str, Any]], num_bootstrap: int) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals, overall and by stratum; the counts stand beside.

    Of a metric in the rows' `tasks` also the mean over tasks, as `<metric>_overall`.
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
            if name in row.get("tasks", ()):
                verdicts[name].append((row["tasks"][name], bool(value)))
            for key, group in row["strata"].items():
                strata[key][group][name].append(value)
    metrics = {name: bootstrap_mean(values, num_bootstrap) for name, values in columns.items()}
    for name, pairs in verdicts.items():
        tags, right = zip(*pairs, strict=True)
        metrics[f"{name}_overall"] = overall(tags, right, num_bootstrap)
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
