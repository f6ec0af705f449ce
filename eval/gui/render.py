"""Summaries as text: Markdown for files and papers, the same tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlrl.eval.results import grid


def markdown(summary: Mapping[str, Any]) -> str:
    """The whole summary: headline, counts, tables with intervals and denominators, cost."""
    head = summary["headline"]
    parts = [
        f"# {summary['benchmark']}",
        f"**{head['name']}: {_percent(head['value'])}** {_interval(head)}, "
        f"n = {summary['num_items']}{_share(summary)}. Intervals: 95 %, bootstrap.",
        _outcomes(summary),
    ]
    for table in summary["tables"]:
        parts.append(f"## {table['title']}\n\n{_table(table)}")
        parts += table["notes"]
    boxes = summary["boxes"]
    if boxes is not None:
        parts.append(
            f"Boxes (n = {boxes['num']}): mean IoU {boxes['iou']:.3f} (std {boxes['iou_std']:.3f}),"
            f" precision {boxes['precision']:.3f}, recall {boxes['recall']:.3f}."
        )
    cost = summary["cost"]
    if cost["num_tokens"]:  # precomputed answers cost nothing here
        parts.append(
            f"Cost: {cost['num_calls']} calls ({cost['calls_per_item']:.2f} per item), "
            f"{cost['num_tokens']} tokens written, {cost['call_seconds']:.1f} s in calls."
        )
    return "\n\n".join(parts) + "\n"


def _share(summary: Mapping[str, Any]) -> str:
    whole = summary["num_published"]
    if whole is None or whole == summary["num_items"]:
        return ""
    return f" of the published {whole} (**not the whole set**)"


def _outcomes(summary: Mapping[str, Any]) -> str:
    counts = summary["outcomes"]
    text = (
        f"{counts['correct']} right, {counts['wrong']} wrong, {counts['wrong_format']} without a "
        f"readable place (they count as misses), {summary['num_refusals']} items to refuse."
    )
    if counts["failed"]:
        text += (
            f" **{counts['failed']} calls failed**: they are in the denominator, no answer is "
            "known; run again to retry them."
        )
    return text


def _table(table: Mapping[str, Any]) -> str:
    """Wide tables are transposed: a published row of seventeen cells fits no screen."""
    columns, rows = table["columns"], table["rows"]
    if len(rows) == 1 and len(columns) > 4:
        header = ["", rows[0]["name"], "95 %", "n"]
        lines = [
            [column, _percent(cell["value"]), _interval(cell), str(_total(cell))]
            for column, cell in zip(columns, rows[0]["cells"], strict=True)
        ]
        return grid(header, lines)
    lines = [
        [row["name"], *(_cell(cell) for cell in row["cells"]), str(_total(row["cells"][-1]))]
        for row in rows
    ]
    return grid(["", *columns, "n"], lines)


def _cell(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "-"
    return f"{_percent(cell['value'])} {_interval(cell)}"


def _total(cell: Mapping[str, Any]) -> int:
    return sum(total for _, total in cell["cells"])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _interval(cell: Mapping[str, Any]) -> str:
    if cell["low"] is None:
        return ""
    return f"[{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"
