"""`runs/<name>/report.html`: one self-contained file that shows what a run learnt."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vlrl.errors import DataError
from vlrl.log.charts import line_chart
from vlrl.log.report_style import STYLE
from vlrl.measure.stats import bootstrap_difference

CHARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("KL to the reference", "nats an action", ("update/kl",)),
    ("Entropy", "nats an action", ("update/entropy",)),
    ("Answer length", "actions", ("rollout/num_actions",)),
    ("Gradient norm", "before clipping", ("update/grad_norm",)),
    ("Groups without signal, answers cut", "share", ("filter/zero_variance", "rollout/truncated")),
    ("Spread of rewards in a group", "standard deviation", ("reward/group_std",)),
)
MAX_GROUPS = 10

Compared = tuple[str, dict[str, Any], dict[str, Any]]
"""A split, and its summary with per-sample columns before and after training."""


def write_report(folder: Path) -> Path:
    """Read a run's files and write its report; DataError where there is no run."""
    metrics_file = folder / "metrics.jsonl"
    if not metrics_file.is_file():
        raise DataError(f"{folder}: no metrics.jsonl there; is it the folder of a run?")
    lines = metrics_file.read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines if line.endswith("}")]
    config = folder / "config.yaml"
    evaluations = _before_after(folder / "evaluations")
    body = [
        _head(folder.name, evaluations, metrics),
        _accuracy(evaluations),
        _curves(metrics),
        _screens(folder / "evaluations"),
        _groups(folder / "rollouts"),
    ]
    if config.is_file():
        text = escape(config.read_text(encoding="utf-8"))
        body.append(f"<h2>Configuration</h2><details><summary>as it ran</summary><pre>{text}")
        body.append("</pre></details>")
    path = folder / "report.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(folder.name)}: vlrl report</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>",
        encoding="utf-8",
    )
    return path


def _head(name: str, evaluations: Sequence[Compared], metrics: Sequence[Mapping[str, Any]]) -> str:
    tiles = []
    for split, before, after in evaluations:
        if "hit" not in before["columns"] or "hit" not in after["columns"]:
            continue
        change = bootstrap_difference(before["columns"]["hit"], after["columns"]["hit"])
        sign = "up" if change["mean"] > 0 else "down"
        tiles.append(
            f'<div class="tile"><span>hit rate, {escape(split)}</span>'
            f"<b>{_percent(before['overall']['hit']['mean'])} &rarr; "
            f"{_percent(after['overall']['hit']['mean'])}</b>"
            f'<span class="{sign}">{100 * change["mean"]:+.1f} points '
            f"[{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]</span></div>"
        )
    tiles.append(
        f'<div class="tile"><span>training</span><b>{len(metrics)} steps</b>'
        f"<span>{_time(metrics)}</span></div>"
    )
    return (
        f"<h1>{escape(name)}</h1>"
        '<p class="note">Change is paired by sample; brackets are 95 % bootstrap intervals.</p>'
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _time(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Minutes in all, and the share of each part."""
    sums: dict[str, float] = {}
    for row in metrics:
        for key, value in row.items():
            if _is_time(key):
                sums[key] = sums.get(key, 0.0) + (value or 0.0)
    whole = sum(sums.values())
    named = sorted(sums.items(), key=lambda pair: -pair[1])
    shares = [f"{k[5:-2]} {100 * v / whole:.0f} %" for k, v in named if v > 0.005 * whole]
    return f"{whole / 60:.1f} minutes, {', '.join(shares)}"


def _is_time(key: str) -> bool:
    return key.startswith("time/")


def _accuracy(evaluations: Sequence[Compared]) -> str:
    """Before and after, overall with intervals and by stratum, a table a split."""
    parts = ["<h2>Held-out accuracy</h2>"]
    for split, before, after in evaluations:
        rows = []
        for name, old in before["overall"].items():
            new = after["overall"].get(name)
            if new is None:
                continue
            rows.append(
                f"<tr><td>{escape(name)}</td><td>{_interval(old)}</td><td>{_interval(new)}</td>"
                f"<td>{new['mean'] - old['mean']:+.3f}</td><td>{old['num']}</td></tr>"
            )
        parts.append(
            f"<h3>{escape(split)}</h3><table><tr><th>figure</th><th>before</th><th>after</th>"
            f"<th>change</th><th>samples</th></tr>{''.join(rows)}</table>"
        )
        parts.append(_strata(before["strata"], after["strata"]))
    if len(parts) == 1:
        parts.append('<p class="note">No evaluation before and after in this run.</p>')
    return "".join(parts)


def _strata(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    rows = []
    for key, groups in before.items():
        for group, figures in groups.items():
            new = after.get(key, {}).get(group, {})
            if "hit" not in figures or "hit" not in new:
                continue
            old_hit, new_hit = figures["hit"]["mean"], new["hit"]["mean"]
            rows.append(
                f"<tr><td>{escape(key)}: {escape(group)}</td><td>{_percent(old_hit)}</td>"
                f"<td>{_percent(new_hit)}</td><td>{100 * (new_hit - old_hit):+.1f}</td>"
                f"<td>{figures['hit']['num']}</td></tr>"
            )
    if not rows:
        return ""
    return (
        "<details><summary>hit rate by kind, application and element type</summary><table>"
        "<tr><th>group</th><th>before</th><th>after</th><th>points</th><th>samples</th></tr>"
        f"{''.join(rows)}</table></details>"
    )


def _curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    if not metrics:
        return ""
    names = {key for row in metrics for key in row}

    def series(key: str) -> list[tuple[float, float]]:
        return [(row["step"], row[key]) for row in metrics if row.get(key) is not None]

    known = {"reward/mean", "reward/group_std", "reward/not_applicable"}
    parts = sorted(n for n in names if n.startswith("reward/") and n not in known)
    charts = [
        line_chart("Reward", {"mean": series("reward/mean")}),
        line_chart("Parts of the reward", {n.split("/", 1)[1]: series(n) for n in parts}),
        line_chart(
            "Sampled answers",
            {n.split("/", 1)[1]: series(n) for n in ("rollout/hit", "rollout/iou") if n in names},
        ),
    ]
    for title, unit, keys in CHARTS:
        charts.append(line_chart(title, {k.split("/", 1)[1]: series(k) for k in keys}, unit))
    times = sorted(n for n in names if _is_time(n))
    charts.append(line_chart("Time of a step", {n[5:-2]: series(n) for n in times}, "seconds"))
    return f'<h2>Training</h2><div class="charts">{"".join(charts)}</div>'


def _screens(folder: Path) -> str:
    """The same held-out samples before and after, with their boxes."""
    cards = []
    for path in sorted((folder / "before" / "pictures").glob("*.webp")):
        later = folder / "after" / "pictures" / path.name
        if not later.is_file():
            continue
        old = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        new = json.loads(later.with_suffix(".json").read_text(encoding="utf-8"))
        shots = "".join(
            f"<figure>{_image(p)}<figcaption>{label}: <code>{escape(str(row['output'])[:60])}"
            "</code></figcaption></figure>"
            for p, row, label in ((path, old, "before"), (later, new, "after"))
        )
        cards.append(
            f'<div class="pair"><p><b>{escape(old["prompt"])}</b></p>'
            f'<div class="shots">{shots}</div></div>'
        )
    if not cards:
        return ""
    return (
        '<h2>Held-out screens</h2><p class="note key"><i style="border-color:#12a150"></i>'
        'true box <i style="border-color:#1f6feb"></i>answer and its click</p>'
        f'<div class="pairs">{"".join(cards)}</div>'
    )


def _groups(folder: Path) -> str:
    """Best and worst answers of recorded groups, spread over the run."""
    paths = sorted(folder.glob("step-*/group-*.json"))
    step = max(1, len(paths) // MAX_GROUPS)
    cards = [_group_card(path) for path in paths[::step][:MAX_GROUPS]]
    if not cards:
        return ""
    return (
        '<h2>Groups: the best and the worst answer</h2><p class="note key">'
        '<i style="border-color:#12a150"></i>true box '
        '<i style="border-color:#1f6feb"></i>best answer '
        '<i style="border-color:#d1242f"></i>worst answer</p>' + "".join(cards)
    )


def _group_card(path: Path) -> str:
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for answer in record["answers"]:
        reward = "n/a" if answer["reward"] is None else f"{answer['reward']:.3f}"
        parts = ", ".join(f"{k} {v:.2f}" for k, v in answer["parts"].items())
        rows.append(
            f"<tr><td><code>{escape(str(answer['output'])[:80])}</code></td><td>{reward}</td>"
            f"<td>{answer['advantage']:+.2f}</td><td>{escape(parts)}</td></tr>"
        )
    picture = path.with_suffix(".webp")
    shot = f'<div class="shot">{_image(picture)}</div>' if picture.is_file() else ""
    prompt = escape(" ".join(record["prompt"]))
    return (
        f'<div class="group">{shot}<div class="answers"><b>step {record["step"]}: {prompt}</b>'
        "<table><tr><th>answer</th><th>reward</th><th>advantage</th><th>parts</th></tr>"
        f"{''.join(rows)}</table></div></div>"
    )


def _before_after(folder: Path) -> list[Compared]:
    """Every split that was evaluated both before and after."""
    found = []
    for path in sorted((folder / "before").glob("*.json")):
        later = folder / "after" / path.name
        if later.is_file():
            found.append((path.stem, _evaluation(path), _evaluation(later)))
    return found


def _evaluation(path: Path) -> dict[str, Any]:
    summary = json.loads(path.read_text(encoding="utf-8"))
    rows = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    columns: dict[str, list[float]] = {}
    for line in rows:
        for name, value in json.loads(line)["metrics"].items():
            if value is not None:
                columns.setdefault(name, []).append(value)
    # A column that does not apply to every sample cannot be paired by position.
    whole = {name: v for name, v in columns.items() if len(v) == len(rows)}
    return {**summary, "columns": whole}


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="" src="data:image/webp;base64,{data}">'


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
