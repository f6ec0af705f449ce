"""CG-STVG: how it scores a tube, and which entries of VidSTG it keeps."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source
from released.time_r1 import CRASH, silent
from released.tubedetr import TubeCase, measured, tubes, whole_clips

COMMIT = "f062d84b72aee8be4425a4a5ab20aa5b077ca142"
REPOSITORY = "HengLan/CGSTVG"
DROPPED = "dropped"


def scores(path: str, name: str, *, everywhere: bool) -> Callable[[Source], Answer]:
    """[tIoU, vIoU, gt_vIoU]; `everywhere`: it raises unless there is a box in every frame."""

    def load(source: Source) -> Answer:
        iou_names = ("np_box_area", "_box_inter_union", "np_box_iou")
        iou = source.define("utils/box_utils.py", iou_names, {"np": np, "Tuple": tuple})
        truth: list[Any] = [None]
        given = {
            "np": np,
            "os": os,
            "List": list,
            "Dict": dict,
            "torch": SimpleNamespace(load=lambda path: truth[0]),
            "np_box_iou": iou["np_box_iou"],
        }
        evaluator: Any = source.define(path, (name,), given)[name]

        def value(row: Json) -> Json:
            case = TubeCase(row)
            truth[0] = [
                {
                    "item_id": 0,
                    "vid": "v",
                    "description": "it",
                    "gt_temp_bound": list(case.true),
                    "bboxs": case.true_boxes(),
                }
            ]
            boxes = {k: [box] for k, box in case.boxes(everywhere=everywhere).items()}
            # Its post-processor adds 1 to the last frame.
            said = {0: {"sted": [case.span[0], case.span[1] + 1], "qtype": "q"}}
            own = evaluator("", "test", [0.3, 0.5])
            found = own.evaluate({0: boxes}, said, *([{}] if everywhere else []))
            return measured(found[0][0])

        return value

    return load


def entries(random: random.Random) -> list[Json]:
    """Rows of [frames, used begin, used end, true begin, true end, frames whose box is missing]."""
    rows: list[Json] = [[30, 0, 29, 20, 30, []], [30, 0, 25, 20, 26, []], [30, 0, 25, 20, 25, []]]
    for _ in range(205):
        num = random.randint(6, 30)
        begin = random.choice((0, random.randint(0, num - 5)))
        end = random.choice((num - 1, random.randint(begin + 2, num - 1)))
        first = random.randint(begin, end)
        last = random.choice((end, end + 1, num, random.randint(first, num)))
        missing = random.choice(([], [], [last], [first]))
        rows.append([num, begin, end, first, min(num, max(first, last)), missing])
    return rows


def vidstg_entry(row: Any, vid: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An entry of VidSTG's file with one sentence, and VidOR's annotation of its video."""
    num, begin, end, first, last, missing = row
    entry = {
        "vid": vid,
        "frame_count": num,
        "fps": 10.0,
        "width": 200,
        "height": 100,
        "subject/objects": [{"tid": 0, "category": "dog"}],
        "used_segment": {"begin_fid": begin, "end_fid": end},
        "temporal_gt": {"begin_fid": first, "end_fid": last},
        "captions": [{"description": "a dog.", "type": 0, "target_id": 0}],
        "questions": [],
    }
    box = {"xmin": 10, "ymin": 10, "xmax": 60, "ymax": 60}
    frames = [[] if k in missing else [{"tid": 0, "bbox": box}] for k in range(num)]
    return entry, {"trajectories": frames}


def kept(source: Source) -> Answer:
    """True span that the evaluation uses, on the file's frames, or that the entry is dropped."""
    saved: dict[str, Any] = {}
    given = {
        "np": np,
        "os": os,
        "json": json,
        "deepcopy": deepcopy,
        "random": random,
        "tqdm": lambda rows: rows,
        "print": silent,
        "data": SimpleNamespace(Dataset=object),
        "torch": SimpleNamespace(save=lambda value, path: saved.update({Path(path).name: value})),
    }
    dataset: Any = source.define("datasets/vidstg.py", ("VidSTGDataset",), given)["VidSTGDataset"]

    def value(row: Json) -> Json:
        entry, boxes = vidstg_entry(row, "v")
        with tempfile.TemporaryDirectory() as folder:
            one = object.__new__(dataset)
            one.data_dir, one.split, one.epsilon = folder, "test", 1e-10
            one.sent_file = f"{folder}/test.json"
            one.bbox_anno_dir = f"{folder}/boxes"
            os.makedirs(one.bbox_anno_dir)
            Path(one.sent_file).write_text(json.dumps([entry]), encoding="utf-8")
            Path(one.bbox_anno_dir, "v.json").write_text(json.dumps(boxes), encoding="utf-8")
            try:
                one.load_data()
            except (KeyError, IndexError, AssertionError):
                return CRASH
        (found,) = (truth for name, truth in saved.items() if name.endswith("anno.cache"))
        return list(found[0]["gt_temp_bound"]) if found else DROPPED

    return value


def _scored(name: str, rows: Any, path: str, evaluator: str, everywhere: bool) -> Comparison:
    return Comparison(
        name, REPOSITORY, COMMIT, path, rows, scores(path, evaluator, everywhere=everywhere)
    )


EVALUATION = "datasets/evaluation"
COMPARISONS: Sequence[Comparison] = [
    _scored(
        "cgstvg_hcstvg", whole_clips, f"{EVALUATION}/hcstvg_eval.py", "HCSTVGiouEvaluator", False
    ),
    _scored("cgstvg_vidstg", tubes, f"{EVALUATION}/vidstg_eval.py", "VidSTGiouEvaluator", True),
    Comparison("cgstvg_entries", REPOSITORY, COMMIT, "datasets/vidstg.py", entries, kept),
]
