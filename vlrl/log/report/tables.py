"""Held-out figures before, during and after training: tiles, tables, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vlrl.log.report.charts import line_chart
from vlrl.log.report.files import Comparison, Run
from vlrl.log.report.numbers import is_rate, percent, points, writer
from vlrl.stats import bootstrap_difference

LABELS = {"hit": "hit rate", "v_iou": "vIoU", "t_iou": "tIoU"}
ENDS = ("mean", "low", "high")


def tiles(run: Run) -> str:
    """The main figures of every split with their paired change, and how long the run took."""
    parts = [_tile(c, name) for c in run.comparisons for name in run.main_metrics(c)]
    parts.append(
        f'<div class="tile"><span>training</span><b>{len(run.metrics)} steps</b>'
        f"<span>{_time(run.metrics)}</span></div>"
    )
    return (
        '<p class="note">Change is paired by sample; brackets are 95 % bootstrap intervals.</p>'
        f'<div class="tiles">{"".join(parts)}</div>'
    )


def _tile(comparison: Comparison, name: str) -> str:
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
    clear = "up" if change["low"] > 0 else "down" if change["high"] < 0 else "unclear"
    num = max(comparison.before.num_samples, comparison.after.num_samples)
    some = "" if num == len(before) else f" <span>{len(before)} of {num} samples</span>"
    label = f"{LABELS.get(name, name)}, {comparison.split}"
    return (
        f'<div class="tile"><span>{escape(label)}</span><b>{old} &rarr; {new}</b>'
        f'<span class="{clear}">{difference}{unit} [{low}, {high}]</span>{some}</div>'
    )


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
    return escape(", ".join([in_all, *shares]))


def tables(run: Run) -> str:
    """Before and after, overall with intervals and by stratum, a table a split."""
    is_accuracy = any("hit" in run.main_metrics(c) for c in run.comparisons)
    parts = [f"<h2>Held-out {'accuracy' if is_accuracy else 'figures'}</h2>"]
    for comparison in run.comparisons:
        rows = []
        for name, old in comparison.before.overall.items():
            new = comparison.after.overall.get(name)
            if new is not None:
                rows.append(_row(name, old, new))
        parts.append(
            f'<h3>{escape(comparison.split)}</h3><div class="wide"><table><tr><th>figure</th>'
            "<th>before</th><th>after</th><th>change</th><th>samples</th></tr>"
            f"{''.join(rows)}</table></div>"
        )
        parts += [_strata(comparison, name) for name in run.main_metrics(comparison)]
    if len(parts) == 1:
        parts.append('<p class="note">No evaluation before and after in this run.</p>')
    return "".join(parts)


def _row(name: str, old: Mapping[str, float], new: Mapping[str, float]) -> str:
    write = writer([figure[end] for figure in (old, new) for end in ENDS], least_decimals=3)
    before, after = (
        f"{write(figure['mean'])} [{write(figure['low'])}, {write(figure['high'])}]"
        for figure in (old, new)
    )
    return (
        f"<tr><td>{escape(name)}</td><td>{before}</td><td>{after}</td>"
        f"<td>{write(new['mean'] - old['mean'], '+')}</td><td>{old['num']}</td></tr>"
    )


def _strata(comparison: Comparison, name: str) -> str:
    before, after = comparison.before.strata, comparison.after.strata
    found = [
        (key, group, metrics[name], after[key][group][name])
        for key, groups in before.items()
        for group, metrics in groups.items()
        if name in metrics and name in after.get(key, {}).get(group, {})
    ]
    rate = is_rate(*comparison.pairs(name))
    write = writer([figure["mean"] for _, _, *both in found for figure in both])
    rows = []
    for key, group, old, new in found:
        change = new["mean"] - old["mean"]
        if rate:
            texts = [percent(old["mean"]), percent(new["mean"]), points(change)]
        else:
            texts = [write(old["mean"]), write(new["mean"]), write(change, "+")]
        cells = "".join(f"<td>{text}</td>" for text in (*texts, old["num"]))
        rows.append(f"<tr><td>{escape(key)}: {escape(group)}</td>{cells}</tr>")
    if not rows:
        return ""
    keys = ", ".join(dict.fromkeys(key for key, *_ in found))
    title = f"{LABELS.get(name, name)} by {keys}"
    return (
        f'<details><summary>{escape(title)}</summary><div class="wide"><table><tr><th>group</th>'
        f"<th>before</th><th>after</th><th>{'points' if rate else 'change'}</th>"
        f"<th>samples</th></tr>{''.join(rows)}</table></div></details>"
    )


def lines(run: Run) -> str:
    """Every figure over the evaluations of a run that was evaluated on the way, too."""
    if not run.evaluations:
        return ""
    names: dict[str, None] = {}
    for _, splits in run.evaluations:
        for evaluation in splits.values():
            names.update(dict.fromkeys(evaluation.overall))
    first = [name for name in ("hit", *run.measured) if name in names]
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
    return (
        '<h2>Held-out figures over the run</h2><p class="note">Mean at every evaluation; '
        f'step 0 is before training.</p><div class="charts">{"".join(charts)}</div>'
    )
