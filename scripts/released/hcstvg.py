"""HC-STVG's own script for tubes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source
from released.tubedetr import TubeCase, whole_clips

COMMIT = "94ab6e96f8e2b9b3e1597081dae1fe7158c1357b"
REPOSITORY = "tzhhhh123/HC-STVG"


def scores(source: Source) -> Answer:
    """[tIoU, vIoU]."""
    files: dict[str, Any] = {}
    given = {
        "np": np,
        "open": lambda path, mode: path,
        "json": SimpleNamespace(load=lambda path: files[path]),
    }
    evaluate: Any = source.define("eval_hcvg.py", ("iou2d", "hcvg_eval"), given)["hcvg_eval"]

    def value(row: Json) -> Json:
        case = TubeCase(row)
        sides = (
            ("true", case.true, case.true_boxes()),
            ("found", case.span, case.boxes()),
        )
        for name, (first, last), boxes in sides:
            by_name = {str(k): box for k, box in boxes.items()}
            files[name] = {"v": {"st_frame": first, "ed_frame": last, "bbox": by_name}}
        v_iou, t_iou, *_ = evaluate("found", "true")
        return [round(float(t_iou), 12), round(float(v_iou), 12)]

    return value


COMPARISONS = [
    Comparison("hcstvg_official", REPOSITORY, COMMIT, "eval_hcvg.py", whole_clips, scores)
]
