"""Objects in a report: turntables, and a page of its own in which they can be turned."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path

from vlrl.log.answer_images import answer_file
from vlrl.log.report.files import Run

VIEWER = "view3d.html"


def turntables(run: Run) -> str:
    """Held-out objects before and after, going round; empty where a run has none."""
    cards = []
    for before, after in _pairs(run.folder):
        shots = []
        for folder in (before, after):
            path = folder / "turntable.webp"
            if path.is_file():
                data = base64.b64encode(path.read_bytes()).decode("ascii")
                shots.append(
                    f'<figure style="flex:0 1 50%"><img alt="" src="data:image/webp;base64,{data}">'
                    f"<figcaption>{folder.parents[1].name}</figcaption></figure>"
                )
        if shots:
            cards.append(
                f'<div class="card"><div class="shots">{"".join(shots)}</div>'
                f"<p><b>{escape(_title(before))}</b></p></div>"
            )
    if not cards:
        return ""
    link = ""
    if write_viewer(run) is not None:
        link = f' Turn them yourself, offline: <a href="{VIEWER}">{VIEWER}</a>.'
    return (
        '<h2>Objects all around</h2><p class="note">The first held-out ones, before and after. '
        f"GLB, PLY, OBJ and codes lie in evaluations/*/images/.{link}</p>"
        f'<div class="gallery">{"".join(cards)}</div>'
    )


def write_viewer(run: Run) -> Path | None:
    """`view3d.html` beside the report; None where a run has no objects."""
    rows = []
    for before, after in _pairs(run.folder):
        files = [(folder.parents[1].name, folder / "object.ply") for folder in (before, after)]
        found = [(label, path) for label, path in files if path.is_file()]
        if found:
            rows.append((_title(before), found))
    if not rows:
        return None
    from vlrl.mesh.files import load_ply
    from vlrl.mesh.viewer import Shown, viewer_html

    shown = [
        Shown(title, [(label, load_ply(path)) for label, path in found]) for title, found in rows
    ]
    path = run.folder / VIEWER
    path.write_text(viewer_html(run.folder.name, shown), encoding="utf-8")
    return path


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Folders of the same samples' answers before and after."""
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
