"""One HTML file that shows objects side by side and turns them, without libraries or downloads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlrl.log.report.page import render
from vlrl.mesh.mesh import ColouredMesh

SCALE = 32767 / 0.6
"""Positions are stored as 16-bit integers, in steps of a 50,000th of the cube's side."""


@dataclass(frozen=True)
class Shown:
    """A row of objects under one caption."""

    title: str
    objects: Sequence[tuple[str, ColouredMesh]]
    """(label, e.g. "before"; mesh)"""


def viewer_html(name: str, rows: Sequence[Shown]) -> str:
    """The page: a few kilobytes, and about ten bytes per triangle."""
    data = [
        {
            "title": row.title,
            "objects": [{"label": label, **_packed(mesh)} for label, mesh in row.objects],
        }
        for row in rows
    ]
    return render("viewer.html.j2", Path(__file__).parent, name=name, rows=data)


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
