"""One HTML file that shows objects side by side and turns them: no library, nothing to fetch."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from vlrl.mesh.mesh import ColouredMesh

SCALE = 32767 / 0.6
"""Positions are sent as 16-bit integers: a 50,000th of the cube's side."""
SCRIPT = Path(__file__).with_name("viewer.js")


@dataclass(frozen=True)
class Shown:
    """A row of objects under one caption."""

    title: str
    objects: Sequence[tuple[str, ColouredMesh]]
    """(what it is, e.g. "before"; the mesh)"""


def viewer_html(name: str, rows: Sequence[Shown]) -> str:
    """The page, a few kilobytes and about ten bytes a triangle."""
    data = [
        {
            "title": row.title,
            "objects": [{"label": label, **_packed(mesh)} for label, mesh in row.objects],
        }
        for row in rows
    ]
    options = "".join(
        f"<option value={i}>{escape(row.title)}</option>" for i, row in enumerate(rows)
    )
    # A caption with "</script>" in it must not end the script.
    text = json.dumps(data).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: objects</title><style>{STYLE}</style></head><body>"
        f'<header><b>{escape(name)}</b> <select id="row">{options}</select>'
        "<span>drag to turn, wheel to zoom</span></header>"
        '<main id="stage"></main>'
        f"<script>const ROWS={text};{SCRIPT.read_text(encoding='utf-8')}</script></body></html>"
    )


def _packed(mesh: ColouredMesh) -> dict[str, object]:
    points = np.round(mesh.vertices * SCALE).clip(-32767, 32767).astype("<i2")
    index = mesh.faces.astype("<u4")
    return {
        "points": _base64(points),
        "colours": _base64(np.asarray(mesh.colours, np.uint8)),
        "faces": _base64(index),
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, "Segoe UI", "Liberation Sans", sans-serif; margin: 0;
  background: light-dark(#fff, #0d1117); color: light-dark(#1c2128, #e6edf3); }
header { padding: 12px 20px; display: flex; gap: 16px; align-items: center; flex-wrap: wrap; }
header span { color: light-dark(#59636e, #9198a1); font-size: 13px; }
select { font: inherit; max-width: 420px; }
main { display: flex; flex-wrap: wrap; gap: 12px; padding: 0 20px 20px; }
figure { margin: 0; flex: 1 1 280px; max-width: 76vh;
  border: 1px solid light-dark(#d8dee4, #30363d);
  border-radius: 8px; overflow: hidden; }
figcaption { padding: 6px 12px; font-size: 13px; }
canvas { width: 100%; aspect-ratio: 1; display: block; cursor: grab; touch-action: none; }
"""
