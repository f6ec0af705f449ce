"""Held-out metrics before, during and after training: tiles, tables, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vlrl.log.report.charts import line_chart
from vlrl.log.report.files import Comparison, Run
from vlrl.log.report.numbers import is_rate, percent, points, writer
from vlrl.log.report.page import render
from vlrl.stats import bootstrap_difference

RATE = " rate"
"""The label of a metric that is a share of right answers ends so."""
ENDS = ("mean", "low", "high")


def tiles(run: Run) -> Markup:
    """The main metrics of every split with their paired change, and how long the run took."""
    shown = [_tile(run, c, name) for c in run.comparisons for name in run.main_metrics(c)]
    return render("tiles.html.j2", tiles=shown, num_steps=run.num_steps, time=_time(run.metrics))


def _tile(run: Run, comparison: Comparison, name: str) -> dict[str, str]:
    before, after = comparison.pairs(name)
    change = bootstrap_difference(before, after)
    means = [sum(before) / len(before), sum(after) / len(after)]
    ends = [change["mean"], change["low"], change["high"]]
    if is_rate(before, after):
        old, new = map(percent, means)
        difference, low, high = map(points, ends)
        unit = " points"
    else:
        old, new = map(writer(means), means)
        write = writer(ends)
        difference, low, high = (write(value, "+") for value in ends)
        unit = ""
    num = max(comparison.before.num_samples, comparison.after.num_samples)
    return {
        "label": f"{run.label(name)}, {comparison.split}",
        "before": old,
        "after": new,
        "change": f"{difference}{unit} [{low}, {high}]",
        "direction": "up" if change["low"] > 0 else "down" if change["high"] < 0 else "unclear",
        "coverage": "" if num == len(before) else f"{len(before)} of {num} samples",
    }


def _time(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Time in all, and the share of each part."""
    sums: dict[str, float] = {}
    for row in metrics:
        for key, value in row.items():
            if key.startswith("time/"):
                sums[key] = sums.get(key, 0.0) + (value or 0.0)
    whole = sum(sums.values())
    named = sorted(sums.items(), key=lambda pair: -pair[1])
    shares = [f"{k[5:-2]} {100 * v / whole:.0f} %" for k, v in named if v > 0.005 * whole]
    in_all = f"{whole / 60:.1f} minutes" if whole >= 60 else f"{whole:.1f} seconds"
    return ", ".join([in_all, *shares])


def tables(run: Run) -> Markup:
    """Before and after, overall with intervals and by stratum, one table per split."""
    shown = {run.label(name) for c in run.comparisons for name in run.main_metrics(c)}
    is_accuracy = any(label.endswith(RATE) for label in shown)
    splits = []
    for comparison in run.comparisons:
        before, after = comparison.before.overall, comparison.after.overall
        strata = [_strata(run, comparison, name) for name in run.main_metrics(comparison)]
        splits.append(
            {
                "name": comparison.split,
                "rows": [_row(n, old, after[n]) for n, old in before.items() if n in after],
                "strata": [one for one in strata if one["rows"]],
            }
        )
    title = f"Held-out {'accuracy' if is_accuracy else 'metrics'}"
    return render("tables.html.j2", title=title, splits=splits)


def _row(name: str, old: Mapping[str, float], new: Mapping[str, float]) -> list[object]:
    write = writer([metric[end] for metric in (old, new) for end in ENDS], least_decimals=3)
    before, after = (
        f"{write(metric['mean'])} [{write(metric['low'])}, {write(metric['high'])}]"
        for metric in (old, new)
    )
    return [name, before, after, write(new["mean"] - old["mean"], "+"), old["num"]]


def _strata(run: Run, comparison: Comparison, name: str) -> dict[str, Any]:
    before, after = comparison.before.strata, comparison.after.strata
    found = [
        (key, group, metrics[name], after[key][group][name])
        for key, groups in before.items()
        for group, metrics in groups.items()
        if name in metrics and name in after.get(key, {}).get(group, {})
    ]
    rate = is_rate(*comparison.pairs(name))
    write = writer([metric["mean"] for _, _, *both in found for metric in both])
    rows = []
    for key, group, old, new in found:
        change = new["mean"] - old["mean"]
        if rate:
            texts = [percent(old["mean"]), percent(new["mean"]), points(change)]
        else:
            texts = [write(old["mean"]), write(new["mean"]), write(change, "+")]
        rows.append([f"{key}: {group}", *texts, old["num"]])
    keys = ", ".join(dict.fromkeys(key for key, *_ in found))
    title = f"{run.label(name)} by {keys}"
    return {"title": title, "change": "points" if rate else "change", "rows": rows}


def lines(run: Run) -> Markup:
    """Every metric over the evaluations of a run that was evaluated on the way, too."""
    if not run.evaluations:
        return Markup()
    names: dict[str, None] = {}
    for _, splits in run.evaluations:
        for evaluation in splits.values():
            names.update(dict.fromkeys(evaluation.overall))
    first = [name for name in (*run.task.main_metrics, *run.measured) if name in names]
    charts = []
    for name in dict.fromkeys([*first, *names]):
        series: dict[str, list[tuple[float, float]]] = {}
        for step, splits in run.evaluations:
            for split, evaluation in splits.items():
                if name in evaluation.overall:
                    mean = evaluation.overall[name]["mean"]
                    series.setdefault(split, []).append((step, mean))
        only = next(iter(series)) if len(series) == 1 else ""
        charts.append(line_chart(name, series, only, smooth=False))
    return render(
        "charts.html.j2",
        title="Held-out metrics over the run",
        level=2,
        note="Mean at every evaluation; step 0 is before training.",
        charts=charts,
        constant=[],
    )
