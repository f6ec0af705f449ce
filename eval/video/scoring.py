"""From answers about videos to metrics in three conventions, lines of JSON, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlrl.eval.results import grid
from vlrl.stats import bootstrap_mean
from vlrl.types import Sample
from vlrl.video.spans import span_iou
from vlrl.video.tube_metrics import CONVENTIONS, NOTHING, score_tube
from vlrl.video.tubes import Track

THRESHOLDS = (0.3, 0.5)
TIME_THRESHOLDS = (0.3, 0.5, 0.7)
NAMES = {
    "t_iou": "m_tIoU",
    "v_iou": "m_vIoU",
    "v_iou_above_0.3": "vIoU@0.3",
    "v_iou_above_0.5": "vIoU@0.5",
    "gt_v_iou": "gt_vIoU",
    "t_iou_at_least_0.3": "R1@0.3",
    "t_iou_at_least_0.5": "R1@0.5",
    "t_iou_at_least_0.7": "R1@0.7",
}
"""Our metrics and what the papers call their means."""
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Found:
    """What was answered about one sample, on native frames."""

    sample: Sample
    span: tuple[int, int] | None
    """First and last native frame; None where nothing could be read."""
    track: Track
    spans_s: tuple[tuple[float, float], ...] | None = None
    """Answered times where only times are known; None where nothing could be read."""
    output: str | None = None
    error: str | None = None


def metrics_of(found: Found) -> dict[str, dict[str, float]]:
    """Metrics of one answer by convention; one without a span scores 0 in each."""
    target = found.sample.target
    if target.tube is None or not target.closed:
        value = 0.0
        if found.spans_s is not None:
            value = span_iou(found.spans_s, target.spans, closed=False)
        # R1@m counts a tie, as Time-R1, VideoChat-R1 and V-STaR do; vIoU@R does not.
        reached = {f"t_iou_at_least_{least}": float(value >= least) for least in TIME_THRESHOLDS}
        return {"seconds": {"t_iou": value, **reached}}
    metrics = {}
    for convention in CONVENTIONS:
        score = NOTHING
        if found.span is not None:
            score = score_tube(
                found.span,
                found.track,
                target.tube,
                convention=convention,
                num_frames=target.timeline.num_frames,
                fps=target.timeline.fps,
                first_frame=target.first_frame,
            )
        metrics[convention] = {
            "t_iou": score.t_iou,
            "v_iou": score.v_iou,
            **{f"v_iou_above_{least}": float(score.v_iou > least) for least in THRESHOLDS},
            "gt_v_iou": score.gt_v_iou,
        }
    return metrics


def prediction_row(found: Found, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """One line of predictions.jsonl."""
    target = found.sample.target
    return {
        "id": found.sample.id,
        "sentence": found.sample.columns.get("sentence"),
        "output": found.output,
        "error": found.error,
        "span": None if found.span is None else list(found.span),
        "spans_s": [list(span) for span in found.spans_s or ()],
        "boxes": {str(k): [round(v, 2) for v in box] for k, box in found.track.boxes.items()},
        "true_span": None if target.tube is None else list(target.tube.span),
        "true_spans_s": None if target.closed else [list(span) for span in target.spans],
        "labels": dict(target.labels),
        "metrics": {name: dict(values) for name, values in metrics.items()},
    }


def summarise(
    title: str,
    found: Sequence[Found],
    metrics: Sequence[Mapping[str, Mapping[str, float]]],
    *,
    convention: str,
    cut_by: Sequence[str],
    num_published: int | None,
    settings: Mapping[str, Any],
    cost: Mapping[str, float],
) -> dict[str, Any]:
    """The contents of summary.json: means with 95 % bootstrap intervals, groups apart."""
    kinds = list(metrics[0])
    main = convention if convention in kinds else kinds[0]
    groups: dict[str, list[int]] = {"all": list(range(len(found)))}
    for label in cut_by:
        for place, one in enumerate(found):
            value = one.sample.target.labels.get(label)
            if value:
                groups.setdefault(f"{label}: {value}", []).append(place)
    return {
        "benchmark": title,
        "convention": main,
        "num_items": len(found),
        "num_published": num_published,
        "num_unreadable": sum(
            one.error is None and one.span is None and one.spans_s is None for one in found
        ),
        "num_failed": sum(one.error is not None for one in found),
        "metrics": {
            kind: {
                group: {
                    name: bootstrap_mean([metrics[i][kind][name] for i in places], NUM_RESAMPLES)
                    for name in metrics[0][kind]
                }
                for group, places in groups.items()
            }
            for kind in kinds
        },
        "cost": dict(cost),
        "settings": dict(settings),
    }


def markdown(summary: Mapping[str, Any]) -> str:
    """The summary as text: the chosen convention by group, then every convention side by side."""
    kind = summary["convention"]
    metrics = summary["metrics"]
    head = metrics[kind]["all"]
    name = "v_iou" if "v_iou" in head else "t_iou"
    whole = summary["num_published"]
    share = "" if whole in (None, summary["num_items"]) else f" of {whole} (**not the whole set**)"
    parts = [
        f"# {summary['benchmark']}",
        f"**{NAMES[name]}: {_percent(head[name])}** in the convention `{kind}`, n = "
        f"{summary['num_items']}{share}. Intervals: 95 %, bootstrap.",
        f"{summary['num_unreadable']} answers without a readable span count 0.",
        f"## {kind}\n\n{_table(metrics[kind])}",
    ]
    if summary["num_failed"]:
        parts[2] += (
            f" **{summary['num_failed']} calls failed**: they count 0; run again to retry them."
        )
    if len(metrics) > 1:
        together = {name: groups["all"] for name, groups in metrics.items()}
        parts.append(
            f"## The same answers in every convention\n\n{_table(together)}\n\n"
            "Which frames are scored and whether a span's last frame belongs to it differ: compare "
            "numbers of one convention only (docs/video_grounding.md)."
        )
    cost = summary["cost"]
    if cost.get("num_tokens"):
        parts.append(
            f"Cost: {cost['num_tokens']:.0f} tokens written, {cost['seconds']:.1f} s in calls."
        )
    return "\n\n".join(parts) + "\n"


def _table(groups: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    names = list(next(iter(groups.values())))
    lines = [
        [
            group,
            *(_percent(values[name]) for name in names),
            str(values[names[0]]["num"]),
        ]
        for group, values in groups.items()
    ]
    return grid(["", *(NAMES[name] for name in names), "n"], lines)


def _percent(value: Mapping[str, float]) -> str:
    return f"{100 * value['mean']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
