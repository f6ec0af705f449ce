"""Objects in a report: turntables, and a separate page in which they can be turned."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from vlrl.log.answer_images import answer_file
from vlrl.log.report.page import render
from vlrl.mesh.files import load_ply
from vlrl.mesh.viewer import Shown, viewer_html

VIEWER = "view3d.html"


def turntables(run_folder: Path) -> str:
    """Turntables of held-out objects before and after training; empty if a run has none."""
    cards = []
    for before, after in _pairs(run_folder):
        found = [(f.parents[1].name, f / "turntable.webp") for f in (before, after)]
        shots = [
            (label, base64.b64encode(path.read_bytes()).decode("ascii"))
            for label, path in found
            if path.is_file()
        ]
        if shots:
            cards.append((_title(before), shots))
    if not cards:
        return ""
    viewer = write_viewer(run_folder)
    return render(
        "turntables.html.j2",
        Path(__file__).parent,
        cards=cards,
        viewer=None if viewer is None else viewer.name,
    )


def write_viewer(run_folder: Path) -> Path | None:
    """Write `view3d.html` next to the report; None if a run has no objects."""
    rows = []
    for before, after in _pairs(run_folder):
        files = [(folder.parents[1].name, folder / "object.ply") for folder in (before, after)]
        found = [(label, load_ply(path)) for label, path in files if path.is_file()]
        if found:
            rows.append(Shown(_title(before), found))
    if not rows:
        return None
    path = run_folder / VIEWER
    path.write_text(viewer_html(run_folder.name, rows), encoding="utf-8")
    return path


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Folders of the same samples' answers before and after training."""
    evaluations = folder / "evaluations"
    pairs = []
    for path in sorted((evaluations / "before" / "images").glob("*/" + answer_file(0))):
        later = evaluations / "after" / "images" / path.parent.name
        if later.is_dir():
            pairs.append((path.parent, later))
    return pairs


def _title(folder: Path) -> str:
    path = folder.with_suffix(".json")
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(record.get("prompt", folder.name))
