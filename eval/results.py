"""What every evaluation writes: predictions.jsonl, summary.json, summary.md; and tables as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlrl.errors import writing


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, one per row; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_summary(out: Path, summary: Mapping[str, Any], text: str, lines: str) -> None:
    """summary.json and summary.md, which is also printed; `lines`: the file written before."""
    whole = json.dumps(summary, indent=2, ensure_ascii=False)
    with writing(out):
        (out / "summary.json").write_text(whole, encoding="utf-8")
        (out / "summary.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"written: {out}/summary.json, summary.md, {lines}")


def grid(header: Sequence[str], lines: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """A Markdown table with aligned columns, the first `num_left` left-aligned."""
    rows = (header, *lines)
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < num_left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width for width in widths[:num_left]]
    rule += ["-" * (width - 1) + ":" for width in widths[num_left:]]
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, lines)])
