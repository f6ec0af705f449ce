"""Training curves of the metrics that a run has, for any kind of run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from markupsafe import Markup

from vlrl.log.report.charts import line_chart
from vlrl.log.report.page import render
from vlrl.protocols import Task


class Chart(NamedTuple):
    """Some metrics that are drawn together."""

    title: str
    unit: str
    keys: tuple[str, ...]
    if_constant: bool = False
    """Drawn even where no metric changes."""


FROM_TRAINER = (
    Chart("KL to the reference", "per action", ("update/kl",)),
    Chart("Entropy", "nats per action", ("update/entropy",)),
    Chart("Answer length", "actions", ("rollout/num_actions",)),
    Chart("Gradient norm", "before clipping", ("update/grad_norm",)),
    Chart(
        "Groups without signal, answers cut", "share", ("filter/zero_variance", "rollout/truncated")
    ),
    Chart("Success on prompts of an adaptive stage", "mean", ("curriculum/mean_success",)),
    Chart("Spread of rewards in a group", "standard deviation", ("reward/group_std",)),
    Chart("Answers without a reward", "share", ("reward/not_applicable",)),
    Chart("Ratio to the sampling policy", "mean and largest", ("update/ratio", "update/ratio_max")),
    Chart("Actions where the ratio is clipped", "share", ("update/clip_fraction",)),
    Chart("Gap between sampling and training", "nats per action", ("update/sampling_gap",)),
    Chart("Age of answers", "optimizer steps", ("rollout/staleness", "rollout/staleness_max")),
    Chart(
        "Answers of other weights",
        "share",
        ("correction/effective_share", "correction/masked_share"),
    ),
    Chart("Largest ratio of trainer to sampler", "before it is cut", ("correction/ratio_max",)),
    Chart("Gap after publishing to the engine", "nats per token", ("engine/gap",)),
)
LEARNER = "trainable_reward/"
FROM_DISCRIMINATOR = (
    Chart("Gap: references above generated", "logits", ("gap", "patch_gap"), True),
    Chart("Logits", "mean", ("reference", "generated"), True),
    Chart("Accuracy", "share classified correctly", ("accuracy",), True),
    Chart("Loss", "", ("loss",), True),
    Chart("Steps skipped", "share", ("skipped",)),
    Chart("Earlier images kept", "images", ("replayed",)),
)
HEALTH, CANARY = "reward_health/", "canary/"
FROM_HEALTH = (
    ("Spread in a group", "standard deviation", "_group_std"),
    ("Groups of equal values", "share", "_zero_variance"),
    ("Values near an end of the range", "share", "_saturated"),
)
IN_OTHER_CHARTS = {"reward/mean", "reward/group_std", "reward/not_applicable"}
NOT_DRAWN = {
    "rollout/steps_ahead",
    "rollout/swapped",
    "rollout/unparsed",
}


def curves(metrics: Sequence[Mapping[str, Any]], task: type[Task]) -> Markup:
    """Reward, the task's and the trainer's metrics, and rewards that learn."""
    if not metrics:
        return Markup()
    names = sorted({key for row in metrics for key in row})
    if "reward/mean" not in names:
        return _grid("Training", _grouped(names), metrics, level=2)
    parts = [n for n in names if n.startswith("reward/") and n not in IN_OTHER_CHARTS]
    of_task = [
        Chart(title, "", tuple(f"rollout/{name}" for name in together))
        for title, together in task.metric_charts.items()
    ]
    drawn = {key for chart in (*of_task, *FROM_TRAINER) for key in chart.keys} | NOT_DRAWN
    others = [n for n in names if n.startswith("rollout/") and n not in drawn]
    charts = [
        Chart("Reward", "", ("reward/mean",), True),
        Chart("Parts of the reward", "", tuple(parts), True),
        *(chart for chart in of_task if chart.title),
        *(Chart(_short(name), "mean", (name,)) for name in others),
        *FROM_TRAINER,
        Chart("Time of a step", "seconds", tuple(n for n in names if n.startswith("time/")), True),
    ]
    sections = [_grid("Training", charts, metrics, level=2)]
    return Markup().join([*sections, *_learners(names, metrics), _health(names, metrics)])


def _grouped(names: Sequence[str]) -> list[Chart]:
    """Of a training without rewards: a chart per metric, and one per group of them."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if name not in ("step", "minutes"):
            groups.setdefault(name.partition("/")[0], []).append(name)
    return [
        Chart("Time since the last line", "seconds", tuple(keys), True)
        if group == "time"
        else Chart(group, "", tuple(keys), True)
        for group, keys in groups.items()
    ]


def _health(names: Sequence[str], metrics: Sequence[Mapping[str, Any]]) -> Markup:
    """Spread and saturation of each part of the reward, and canaries (vlrl/train/health.py)."""
    charts = [
        Chart(title, unit, tuple(n for n in names if n.startswith(HEALTH) and n.endswith(ending)))
        for title, unit, ending in FROM_HEALTH
    ]
    gaps = tuple(n for n in names if n.startswith(CANARY) and n.endswith(("_gap", "_gain")))
    alike = tuple(n for n in names if n.startswith(CANARY) and n.endswith("_agreement"))
    own = tuple(n for n in names if n.startswith(CANARY) and n not in gaps + alike)
    if own:
        charts += [
            Chart("Canaries", "mean on training answers", own, True),
            Chart("Pairs that reward and canary order alike", "share", alike, True),
            Chart("Gain on the canary; gap to the reward's own", "deviations", gaps, True),
        ]
    if not any(chart.keys for chart in charts):
        return Markup()
    return _grid("Health of the reward", charts, metrics)


def _learners(names: Iterable[str], metrics: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """A section for every reward that learns; metrics of an unknown kind get a chart each."""
    # Longest first: `patch_gap` is no `gap` of a reward whose name ends in `_patch`.
    known = sorted((k for chart in FROM_DISCRIMINATOR for k in chart.keys), key=len, reverse=True)
    endings: dict[str, list[str]] = {}
    rest = []
    for name in (n.removeprefix(LEARNER) for n in names if n.startswith(LEARNER)):
        ending = next((k for k in known if name.endswith(f"_{k}")), None)
        if ending is None:
            rest.append(name)
        else:
            endings.setdefault(name.removesuffix(f"_{ending}"), []).append(ending)
    sections = []
    for node in endings:
        prefix = f"{LEARNER}{node}_"
        mine = [name for name in rest if name.startswith(f"{node}_")]
        rest = [name for name in rest if name not in mine]
        charts = [
            chart._replace(keys=tuple(prefix + key for key in chart.keys))
            for chart in FROM_DISCRIMINATOR
        ]
        charts += [Chart(n.removeprefix(f"{node}_"), "", (LEARNER + n,)) for n in mine]
        sections.append(_grid(f"Discriminator: {node}", charts, metrics, prefix))
    if rest:
        charts = [Chart(name, "", (LEARNER + name,)) for name in rest]
        sections.append(_grid("Rewards that learn", charts, metrics))
    return sections


def _grid(
    title: str,
    charts: Sequence[Chart],
    metrics: Sequence[Mapping[str, Any]],
    prefix: str | None = None,
    level: int = 3,
) -> Markup:
    """The charts of metrics that the run has; those that never change are named below."""
    drawn, constant = [], []
    marks = _stage_starts(metrics)
    for chart in charts:
        series = {_short(key, prefix): _series(metrics, key) for key in chart.keys}
        series = {name: points for name, points in series.items() if points}
        if chart.if_constant or any(_changes(points) for points in series.values()):
            drawn.append(line_chart(chart.title, series, chart.unit, marks=marks))
        else:
            constant += [f"{name} {points[0][1]:.4g}" for name, points in series.items()]
    return render(
        "charts.html.j2", title=title, level=level, note="", charts=drawn, constant=constant
    )


def _stage_starts(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[float, str]]:
    """Between which steps a stage of the curriculum gave way to another, with its number."""
    stages = _series(metrics, "curriculum/stage")
    return [
        ((step + before) / 2, f"{stage:.0f}")
        for (before, old), (step, stage) in pairwise(stages)
        if stage != old
    ]


def _series(metrics: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in metrics if row.get(key) is not None]


def _changes(points: Sequence[tuple[float, float]]) -> bool:
    """Whether there is anything to see; one point alone could still have been another."""
    return len(points) == 1 or any(value != points[0][1] for _, value in points)


def _short(key: str, prefix: str | None = None) -> str:
    if prefix:
        return key.removeprefix(prefix)
    return key[5:-2] if key.startswith("time/") else key.split("/", 1)[-1]
