"""TubeDETR: which frames it samples, and how it scores a tube on VidSTG and HC-STVG."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from released.comparison import Answer, Comparison, Json
from released.source import Source

COMMIT = "d70c0eed94da09a9a5e4329c937230ecfb1d3ee6"
REPOSITORY = "antoyang/TubeDETR"
HCSTVG_SECONDS = 20

Edges = list[float]


def tubes(random: random.Random) -> list[Json]:
    """Rows of tubes in clips of any rate and place: see `TubeCase`."""
    rows: list[Json] = [[30.0, 323, 300, 108, 114, 108, 114, 0, 3, 0]]
    for _ in range(210):
        fps = random.choice((5.0, 10.0, 15.0, 23.976, 24.0, 25.0, 29.97, 30.0))
        num = random.choice((random.randint(1, 60), random.randint(60, 900), 2000))
        rows.append([fps, random.choice((0, random.randint(1, 900))), num, *_spans(random, num)])
    return rows


def whole_clips(random: random.Random) -> list[Json]:
    """The same in clips of 20 s from frame 0 on, as HC-STVG has them."""
    rows: list[Json] = []
    for _ in range(210):
        num = random.choice((100, 300, 479, 500, 599, 600))
        rows.append([num / HCSTVG_SECONDS, 0, num, *_spans(random, num)])
    return rows


def _spans(random: random.Random, num: int) -> list[Json]:
    """True and answered span, how far and how unevenly boxes are off, and which are given."""

    def span() -> list[int]:
        first = random.randrange(num)
        length = random.choice((0, 1, random.randint(0, 12), random.randint(0, num)))
        return [first, min(num - 1, first + length)]

    true = span()
    near = [min(num - 1, max(0, edge + random.randint(-9, 9))) for edge in true]
    answer = random.choice((true, sorted(near), sorted(near), span()))
    return [*true, *answer, random.choice((0, 0, 5, -20, 60)), random.choice((0, 3)),
            random.choice((0, 0, 1, 2))]  # fmt: skip


class TubeCase:
    """A row of `tubes`; frames count from the clip's first one, both ends of a span included."""

    def __init__(self, row: Any) -> None:
        self.fps: float = row[0]
        self.begin, self.num_frames = int(row[1]), int(row[2])
        self.true, self.span = (int(row[3]), int(row[4])), (int(row[5]), int(row[6]))
        self.off, self.uneven, self.given = row[7:]
        """given: 0, boxes in the answered span; 1, every third one is missing; 2, boxes in every
        frame of the clip."""

    def true_box(self, frame: int) -> Edges:
        """Box of a frame, xyxy in pixels."""
        return [20.0 + frame % 5, 20.0, 60.0 + frame % 5, 60.0]

    def true_boxes(self) -> dict[int, Edges]:
        """True boxes by frame."""
        return {k: self.true_box(k) for k in range(self.true[0], self.true[1] + 1)}

    def boxes(self, *, everywhere: bool = False) -> dict[int, Edges]:
        """Answered boxes by frame; `everywhere`: as a model that draws one in every frame."""
        first, last = self.span
        if everywhere or self.given == 2:
            first, last = 0, self.num_frames - 1
        found = {}
        for k in range(first, last + 1):
            if everywhere or self.given != 1 or k % 3:
                x1, y1, x2, y2 = self.true_box(k)
                shift = self.off + self.uneven * (k % 4)
                found[k] = [x1 + shift, y1, x2 + shift, y2]
        return found


def _iou(source: Source) -> Any:
    names = ("np_box_area", "_box_inter_union", "np_box_iou")
    given = {"np": np, "Tuple": tuple}
    return source.define("util/box_ops.py", names, given)["np_box_iou"]


def _evaluator(source: Source, path: str, name: str, annotations: list[Any]) -> Any:
    """The class, reading the annotations that `annotations` holds at the time."""
    given = {
        "np": np,
        "Path": Path,
        "List": list,
        "Dict": dict,
        "open": lambda *args: None,
        "json": SimpleNamespace(load=lambda file: annotations[0]),
        "np_box_iou": _iou(source),
    }
    return source.define(path, (name,), given)[name]


def vidstg_file(case: TubeCase) -> Json:
    """The preprocessed annotation of one sentence."""
    boxes: dict[str, Json] = {
        str(case.begin + k): {"bbox": [x1, y1, x2 - x1, y2 - y1]}
        for k, (x1, y1, x2, y2) in case.true_boxes().items()
    }
    video: dict[str, Json] = {
        "video_id": 0,
        "original_video_id": "v",
        "target_id": 0,
        "fps": case.fps,
        "start_frame": case.begin,
        "end_frame": case.begin + case.num_frames - 1,
        "tube_start_frame": case.begin + case.true[0],
        "tube_end_frame": case.begin + case.true[1] + 1,
    }
    return {"videos": [video], "trajectories": {"v": {"0": boxes}}}


def hcstvg_file(case: TubeCase) -> Json:
    """The preprocessed annotation of one video."""
    boxes: list[Json] = [
        [x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in case.true_boxes().values()
    ]
    video: dict[str, Json] = {
        "video_id": 0,
        "frame_count": case.num_frames,
        "tube_start_frame": case.true[0],
        "tube_end_frame": case.true[1] + 1,
        "trajectory": boxes,
    }
    return [video]


def scores(path: str, name: str, file: Callable[[TubeCase], Json]) -> Callable[[Source], Answer]:
    """[tIoU, vIoU, gt_vIoU] of an answer with a box in every frame."""

    def load(source: Source) -> Answer:
        annotations: list[Any] = [None]
        evaluator = _evaluator(source, path, name, annotations)

        def value(row: Json) -> Json:
            case = TubeCase(row)
            annotations[0] = file(case)
            found = case.boxes(everywhere=True).items()
            boxes = {f"0_{case.begin + k}": {"boxes": [box]} for k, box in found}
            # The end that its post-processor gives is the first frame after the span.
            sted = [case.begin + case.span[0], case.begin + case.span[1] + 1]
            own = evaluator("", verbose=False)
            return measured(own.evaluate(boxes, {0: {"sted": sted, "qtype": "q"}})[0])

        return value

    return load


def measured(metrics: Mapping[str, Any]) -> Json:
    """tIoU, vIoU and gt_vIoU, rounded."""
    return [round(float(metrics[name]), 12) for name in ("tiou", "viou", "gt_viou")]


def sampled(source: Source) -> Answer:
    """Number of sampled frames of a clip, and a checksum of them counted from its first one."""
    annotations: list[Any] = [None]
    evaluator = _evaluator(source, "datasets/vidstg_eval.py", "VidSTGiouEvaluator", annotations)

    def value(row: Json) -> Json:
        case = TubeCase(row)
        annotations[0] = vidstg_file(case)
        frames = evaluator("", verbose=False).vid2imgids[0][0]
        return checksum([frame - case.begin for frame in frames])

    return value


def checksum(frames: Sequence[int]) -> Json:
    """Number and checksum of frames."""
    return [len(frames), zlib.crc32(repr(list(frames)).encode())]


VIDSTG, HCSTVG = "datasets/vidstg_eval.py", "datasets/hcstvg_eval.py"
COMPARISONS = [
    Comparison("tubedetr_frames", REPOSITORY, COMMIT, VIDSTG, tubes, sampled),
    Comparison(
        "tubedetr_vidstg", REPOSITORY, COMMIT, VIDSTG, tubes,
        scores(VIDSTG, "VidSTGiouEvaluator", vidstg_file),
    ),
    Comparison(
        "tubedetr_hcstvg", REPOSITORY, COMMIT, HCSTVG, whole_clips,
        scores(HCSTVG, "HCSTVGGiouEvaluator", hcstvg_file),
    ),
]  # fmt: skip
