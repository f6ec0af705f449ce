"""`runs/<name>/report.html`: one self-contained file that shows what a run learnt."""

from __future__ import annotations

from html import escape
from pathlib import Path

from vlrl.log.report import images as report_images
from vlrl.log.report import shapes as report_shapes
from vlrl.log.report import tables as report_tables
from vlrl.log.report.curves import curves
from vlrl.log.report.files import read_run
from vlrl.log.report.style import STYLE


def write_report(folder: Path) -> Path:
    """Read a run's files and write its report; DataError where there is no run."""
    run = read_run(folder)
    body = [
        f"<h1>{escape(folder.name)}</h1>",
        report_tables.tiles(run),
        report_tables.tables(run),
        report_tables.lines(run),
        curves(run.metrics),
        report_images.held_out(run),
        report_shapes.turntables(run),
        report_images.groups(run),
    ]
    if run.config:
        body.append("<h2>Configuration</h2><details><summary>as it ran</summary>")
        body.append(f"<pre>{escape(run.config)}</pre></details>")
    path = folder / "report.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(folder.name)}: vlrl report</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>",
        encoding="utf-8",
    )
    return path
