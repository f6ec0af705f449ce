"""From replies to verdicts, to the lines of predictions.jsonl, and to summary.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlrl.eval.gui.items import Item
from vlrl.eval.gui.passes import failure
from vlrl.eval.gui.rates import Rate, Scored
from vlrl.eval.gui.strategies import Final, Pass, Reading, Strategy
from vlrl.eval.gui.tables import TABLES, Table, is_refusal
from vlrl.geometry.boxes import Box, Frame, Point, overlap
from vlrl.gui.verdict import Outcome, Polygon, Refusal, Target, Verdict, judge


def verdict_of(
    item: Item, passes: Sequence[Pass], strategy: Strategy, reading: Reading
) -> tuple[Verdict, Final]:
    """The verdict on an item and the answer that it is about."""
    error = failure(passes)
    if error is not None:
        return Verdict(Outcome.FAILED, error), Final(None)
    final = strategy.final(passes, reading)
    verdict = judge(final.answer, item.target, item.frame)
    if final.note:
        verdict = Verdict(verdict.outcome, f"{verdict.reason}; {final.note}")
    return verdict, final


def prediction(
    item: Item, passes: Sequence[Pass], verdict: Verdict, final: Final
) -> dict[str, Any]:
    """One line of predictions.jsonl: question, raw answer, parsed answer, verdict, reason."""
    click = final.answer.to(item.frame) if isinstance(final.answer, Point) else final.answer
    row: dict[str, Any] = {
        "id": item.id,
        "instruction": item.instruction,
        "image": item.image,
        "image_size": list(item.frame.extent),
        "target": target_json(item.target, item.frame),
        "output": passes[final.place].reply.output,
        "click_px": [click.x, click.y] if isinstance(click, Point) else None,
        "box_px": None if final.box is None else list(final.box.to(item.frame).xyxy),
        "refused": isinstance(click, Refusal),
        "verdict": verdict.outcome.value,
        "reason": verdict.reason,
    }
    if len(passes) > 1:
        row["outputs"] = [one.reply.output for one in passes]
    return row


def target_json(target: Target, pixels: Frame) -> dict[str, Any]:
    """What was to be found: a box or a polygon in pixels, or a refusal."""
    if isinstance(target, Refusal):
        return {"refusal": True}
    if isinstance(target, Polygon):
        return {"polygon_px": [number for p in target.corners for number in (p.x, p.y)]}
    return {"box_px": list(target.to(pixels).xyxy)}


def summarise(
    scored: Sequence[Scored],
    layout: str,
    *,
    title: str,
    settings: Mapping[str, Any],
    passes: Mapping[str, Sequence[Pass]],
    boxes: Mapping[str, Box | None],
    num_published: int | None,
) -> dict[str, Any]:
    """The contents of summary.json: headline, counts, tables, cost."""
    plan = TABLES[layout]
    name, headline = plan.headline(scored)
    outcomes = Counter(one.verdict.outcome.value for one in scored)
    summary: dict[str, Any] = {
        "benchmark": title,
        "headline": {"name": name, **figure(headline)},
        "num_items": len(scored),
        "num_published": num_published,
        "num_refusals": sum(is_refusal(one.item) for one in scored),
        "outcomes": {outcome.value: outcomes[outcome.value] for outcome in Outcome},
        "tables": [table_json(table) for table in plan.tables(scored)],
        "boxes": box_metrics(scored, boxes),
        "cost": cost(passes),
        "settings": dict(settings),
    }
    return summary


def figure(rate: Rate) -> dict[str, Any]:
    """A rate with its interval and counts."""
    interval = rate.interval()
    return {
        "value": rate.value,
        "low": None if interval is None else interval[0],
        "high": None if interval is None else interval[1],
        "cells": [list(cell) for cell in rate.cells],
    }


def table_json(table: Table) -> dict[str, Any]:
    """A table with every cell's rate, interval and counts."""
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [
            {"name": name, "cells": [figure(rate) for rate in rates]} for name, rates in table.rows
        ],
        "notes": list(table.notes),
    }


def box_metrics(
    scored: Sequence[Scored], boxes: Mapping[str, Box | None]
) -> dict[str, float | int] | None:
    """Mean IoU, precision and recall of answered boxes against true boxes; None without boxes.

    Precision is the shared area over the answer's, recall over the truth's (UI-Vision's own
    layout code has the two names the wrong way round). An answer without a valid box counts 0.
    None too where no target is a box: there are only refusals or polygons.
    """
    if not any(box is not None for box in boxes.values()):
        return None
    metrics = []
    for one in scored:
        true = one.item.target
        if not isinstance(true, Box):
            continue
        box = boxes.get(one.item.id)
        metrics.append(overlap(box, true) if box is not None else (0.0, 0.0, 0.0))
    if not metrics:
        return None
    means, spreads = np.mean(metrics, axis=0), np.std(metrics, axis=0)
    names = ("iou", "precision", "recall")
    return {
        "num": len(metrics),
        **{name: float(value) for name, value in zip(names, means, strict=True)},
        **{f"{name}_std": float(value) for name, value in zip(names, spreads, strict=True)},
    }


def cost(passes: Mapping[str, Sequence[Pass]]) -> dict[str, float | int]:
    """Calls, tokens written and seconds of all items, and calls per item."""
    every = [one.reply for own in passes.values() for one in own]
    return {
        "num_calls": len(every),
        "calls_per_item": len(every) / max(1, len(passes)),
        "num_tokens": sum(reply.num_tokens for reply in every),
        "call_seconds": round(sum(reply.seconds for reply in every), 3),
    }
