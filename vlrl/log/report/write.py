"""`runs/<name>/report.html`: one self-contained file that shows what a run learnt."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from vlrl.errors import writing
from vlrl.log.report import images, tables
from vlrl.log.report.curves import curves
from vlrl.log.report.files import read_run
from vlrl.log.report.page import render


def write_report(folder: Path) -> Path:
    """Read a run's files and write its report; DataError where there is no run."""
    run = read_run(folder)
    html = render(
        "report.html.j2",
        title=f"{folder.name}: vlrl report",
        name=folder.name,
        config=run.config,
        sections=[
            tables.tiles(run),
            tables.tables(run),
            tables.lines(run),
            curves(run.metrics, run.task),
            images.held_out(run),
            # A task hands in HTML.
            *map(Markup, run.task.report_sections(folder)),
            images.groups(run),
        ],
    )
    path = folder / "report.html"
    with writing(path):
        path.write_text(html, encoding="utf-8")
    return path
