"""Tubes: metrics, sampled frames and kept entries against released code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from helpers_released import compare, rows
from released.cgstvg import CRASH, DROPPED, vidstg_entry
from released.tubedetr import TubeCase, checksum

from vlrl.errors import DataError
from vlrl.geometry.boxes import Frame
from vlrl.video.data.video_rows import VideoSource, read_videos
from vlrl.video.tube_metrics import score_tube, tubedetr_frames
from vlrl.video.tubes import Track, Tube

PICTURE = Frame(200, 100)
ROUNDED = 1e-11


def scores(row: Any, convention: str, *, everywhere: bool = False) -> list[float]:
    case = TubeCase(row)
    true = Tube(case.true[0], np.array(list(case.true_boxes().values())), PICTURE)
    found = {k: (b[0], b[1], b[2], b[3]) for k, b in case.boxes(everywhere=everywhere).items()}
    score = score_tube(
        case.span,
        Track(found, PICTURE),
        true,
        convention=convention,
        num_frames=case.num_frames,
        fps=case.fps,
        first_frame=case.begin,
    )
    return [score.t_iou, score.v_iou, score.gt_v_iou]


def test_hcstvg_official():
    compare(
        "hcstvg_official",
        lambda row: scores(row, "official")[:2],
        ROUNDED,
        {"boxes outside the answered span do not count; there they raise tIoU up to 1": (
            lambda row: TubeCase(row).given == 2
        )},
    )  # fmt: skip


def test_tubedetr_frames():
    def ours(row: Any) -> object:
        case = TubeCase(row)
        return checksum(tubedetr_frames(case.num_frames, case.fps, case.begin))

    compare("tubedetr_frames", ours)


def test_tubedetr_vidstg():
    compare("tubedetr_vidstg", lambda row: scores(row, "tubedetr", everywhere=True), ROUNDED)


def test_tubedetr_hcstvg():
    compare("tubedetr_hcstvg", lambda row: scores(row, "tubedetr", everywhere=True), ROUNDED)


def test_cgstvg_hcstvg():
    compare("cgstvg_hcstvg", lambda row: scores(row, "cgstvg"), ROUNDED)


def test_cgstvg_vidstg():
    compare("cgstvg_vidstg", lambda row: scores(row, "cgstvg", everywhere=True), ROUNDED)


def test_cgstvg_entries(tmp_path: Path):
    folder = tmp_path / "vidor"
    folder.mkdir()
    names = {json.dumps(row): f"v{k}" for k, (row, _) in enumerate(rows("cgstvg_entries"))}
    for row, vid in names.items():
        boxes = vidstg_entry(json.loads(row), vid)[1]
        (folder / f"{vid}.json").write_text(json.dumps(boxes), encoding="utf-8")

    def ours(row: Any) -> object:
        vid = names[json.dumps(row)]
        entry, _ = vidstg_entry(row, vid)
        path = tmp_path / f"{vid}.json"
        path.write_text(json.dumps([entry]), encoding="utf-8")
        source = VideoSource(
            path=str(path),
            format="vidstg",
            trajectories=str(folder),
            end_included=True,
            check_videos=False,
        )
        try:
            (found,) = read_videos(source, on_bad_row="error", limit=None).good
        except DataError:
            return DROPPED
        assert found.tube is not None
        return [found.first_frame + edge for edge in found.tube.span]

    compare(
        "cgstvg_entries", ours, 0.0,
        {f"an object without a box is a bad row; there it is a {CRASH}": lambda row: row[5] != []},
    )  # fmt: skip
