"""Readers of video benchmarks on small files in the published forms, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_video import moving_square, write_video

from vlrl.errors import ConfigError, DataError
from vlrl.tasks.video_grounding import VideoGrounding
from vlrl.video.data.video_rows import VideoSource, read_videos

NAME = "55_vfjywN5CN0Y.mp4"
BOXES = [[10 + k, 20, 30, 40] for k in range(5)]
CORNERS = [[10 + k, 20, 40 + k, 60] for k in range(5)]
V1 = {
    "bbox": BOXES,
    "st_time": 1.2,
    "ed_time": 9.9,  # disagrees with the number of boxes, as in places in the published file
    "st_frame": 31,
    "img_num": 500,
    "width": 200,
    "height": 100,
    "caption": "The man in white turns.",
}
V2 = {key: V1[key] for key in ("bbox", "st_time", "ed_time", "st_frame", "img_num")} | {
    "img_size": [100, 200],
    "English": "The man in white turns.",
}


def read(path: Path, data: Any, form: str, skip: bool = False, **options: Any) -> Any:
    text = data if isinstance(data, str) else json.dumps(data)
    path.write_text(text, encoding="utf-8")
    options = {"check_videos": False, **options}
    source = VideoSource(path=str(path), format=form, **options)
    return read_videos(source, on_bad_row="skip" if skip else "error", limit=None)


@pytest.mark.parametrize(("row", "form"), [(V1, "hcstvg"), (V2, "hcstvg"), (V1, "hcstvg_cgstvg")])
def test_hcstvg_counts_frames_from_one(tmp_path: Path, row: dict[str, Any], form: str) -> None:
    (one,) = read(tmp_path / "train.json", {NAME: row}, form).good
    assert (one.width_px, one.height_px, one.fps, one.num_frames) == (200, 100, 25.0, 500)
    assert one.tube.span == (30, 34)
    assert one.tube.boxes.tolist() == CORNERS
    assert one.spans_s == ((30 / 25, 35 / 25),)
    assert one.sentence == "The man in white turns."
    assert one.id == NAME


def test_tubedetrs_start_is_one_frame_later(tmp_path: Path) -> None:
    (one,) = read(tmp_path / "a.json", {NAME: V1}, "hcstvg", published_start=True).good
    assert one.tube.span == (31, 35)


def processed(**over: Any) -> dict[str, Any]:
    return {
        "original_video_id": NAME[:-4],
        "frame_count": 500,
        "width": 200,
        "height": 100,
        "tube_start_frame": 31,
        "tube_end_frame": 36,
        "tube_start_time": 1.2,
        "tube_end_time": 9.9,
        "video_path": f"12/{NAME}",
        "caption": "The man in white turns.",
        "video_id": 0,
        "trajectory": BOXES,
        **over,
    }


def test_tubedetrs_processed_form_is_the_raw_one(tmp_path: Path) -> None:
    raw = read(tmp_path / "a.json", {NAME: V1}, "hcstvg").good[0]
    (one,) = read(tmp_path / "b.json", [processed()], "hcstvg_tubedetr").good
    assert one.tube.span == raw.tube.span
    assert one.tube.boxes.tolist() == raw.tube.boxes.tolist()
    assert one.video.endswith(f"12/{NAME}")
    (late,) = read(tmp_path / "b.json", [processed()], "hcstvg_tubedetr", published_start=True).good
    assert late.tube.span == (31, 35)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"st_frame": 0}, "'st_frame' must be a number of at least 1"),
        ({"st_frame": 499}, "frames 498 to 502, but the clip has 500"),
        ({"bbox": []}, "boxes must be a list"),
        ({"bbox": [[1, 2, 3]]}, r"box 0 must be \[x, y, w, h\]"),
        ({"bbox": [[1, 2, 0, 5]]}, "empty or inverted"),
        ({"bbox": [[190, 2, 30, 5]]}, "exceeds its image of 200 x 100 by 20 px"),
        ({"caption": ""}, "'caption'"),
        ({"img_num": "500"}, "'img_num'"),
    ],
)
def test_dirty_hcstvg_rows_are_listed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = {"bad.mp4": {**V1, **change}, NAME: V1}
    with pytest.raises(DataError, match=rf"train.json, 'bad.mp4': .*{message}"):
        read(tmp_path / "train.json", rows, "hcstvg")
    found = read(tmp_path / "train.json", rows, "hcstvg", skip=True)
    assert [one.id for one in found.good] == [NAME]
    assert len(found.skipped) == 1


def test_a_box_that_exceeds_a_little_is_cut_where_allowed(tmp_path: Path) -> None:
    row = {**V1, "bbox": [[171, 2, 30, 5]]}
    (one,) = read(tmp_path / "a.json", {NAME: row}, "hcstvg", clip_px=2).good
    assert one.tube.boxes.tolist() == [[171, 2, 200, 7]]


def test_cgstvgs_damaged_videos_are_listed(tmp_path: Path) -> None:
    rows = {"10__Gvp-cj3bmIY.mp4": V1, NAME: V1}
    with pytest.raises(DataError, match="leaves this damaged video out"):
        read(tmp_path / "a.json", rows, "hcstvg_cgstvg")
    found = read(tmp_path / "a.json", rows, "hcstvg_cgstvg", skip=True)
    assert len(found.good) == 1
    assert "10__Gvp" in found.skipped[0]


def test_a_processed_row_with_another_number_of_boxes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="frames 31 to 34 and 5 boxes"):
        read(tmp_path / "b.json", [processed(tube_end_frame=35)], "hcstvg_tubedetr")


# ---------------------------------------------------------------- VidSTG

VID = "2793806282"


def vidstg_entry(**over: Any) -> dict[str, Any]:
    return {
        "vid": VID,
        "frame_count": 60,
        "fps": 15.0,
        "width": 200,
        "height": 100,
        "subject/objects": [{"tid": 0, "category": "adult"}, {"tid": 1, "category": "dog"}],
        "used_segment": {"begin_fid": 10, "end_fid": 49},
        "used_relation": {"subject_tid": 0, "object_tid": 1, "predicate": "watch"},
        "temporal_gt": {"begin_fid": 20, "end_fid": 30},
        "captions": [{"description": "an adult watches a dog.", "type": 0, "target_id": 0}],
        "questions": [{"description": "what does the adult watch?", "type": 1, "target_id": 1}],
        **over,
    }


@pytest.fixture
def vidor(tmp_path: Path) -> str:
    """VidOR's annotation in its own subfolder; object 1 has no box from frame 30 on."""
    folder = tmp_path / "vidor" / "0001"
    folder.mkdir(parents=True)
    frames = []
    for k in range(60):
        objects = [{"tid": 0, "bbox": {"xmin": k, "ymin": 5, "xmax": k + 20, "ymax": 45}}]
        if k < 30:
            objects.append({"tid": 1, "bbox": {"xmin": 90, "ymin": k, "xmax": 120, "ymax": k + 9}})
        frames.append([{**one, "generated": 0, "tracker": "none"} for one in objects])
    (folder / f"{VID}.json").write_text(json.dumps({"trajectories": frames}), encoding="utf-8")
    return str(folder.parent)


def test_vidstg_gives_a_sample_per_question_on_the_used_segment(tmp_path: Path, vidor: str) -> None:
    found = read(tmp_path / "test.json", [vidstg_entry()], "vidstg", trajectories=vidor).good
    assert [one.labels["question"] for one in found] == ["declarative", "interrogative"]
    assert [one.labels["object"] for one in found] == ["adult", "dog"]
    caption, question = found
    # The clip is the used segment: its frame 10 is frame 0; the span ends before frame 30.
    assert (caption.first_frame, caption.num_frames, caption.fps) == (10, 40, 15.0)
    assert caption.tube.span == question.tube.span == (10, 19)
    assert caption.tube.boxes[0].tolist() == [20, 5, 40, 45]
    assert question.tube.boxes[-1].tolist() == [90, 29, 120, 38]
    assert len({one.id for one in found}) == 2


def test_vidstg_with_the_end_included(tmp_path: Path, vidor: str) -> None:
    caption, question = read(
        tmp_path / "t.json", [vidstg_entry()], "vidstg", trajectories=vidor, end_included=True
    ).good
    assert caption.tube.span == (10, 20)
    # The dog has no box in the last frame: the previous one is used.
    assert question.tube.boxes[-1].tolist() == question.tube.boxes[-2].tolist()


def test_vidstg_ends_at_the_number_of_frames(tmp_path: Path, vidor: str) -> None:
    """end_fid == frame_count and one beyond the used segment, as in a sixth of the entries."""
    entry = vidstg_entry(
        used_segment={"begin_fid": 0, "end_fid": 59},
        temporal_gt={"begin_fid": 50, "end_fid": 60},
        questions=[],
    )
    (one,) = read(tmp_path / "t.json", [entry], "vidstg", trajectories=vidor).good
    assert one.num_frames == 60
    assert one.tube.span == (50, 59)
    (included,) = read(
        tmp_path / "t.json", [entry], "vidstg", trajectories=vidor, end_included=True
    ).good
    assert included.tube.span == (50, 59)


def test_cgstvg_leaves_out_entries_whose_truth_ends_after_the_used_segment(
    tmp_path: Path, vidor: str
) -> None:
    """...where the video goes on after it."""
    entry = vidstg_entry(temporal_gt={"begin_fid": 40, "end_fid": 50}, questions=[])
    (one,) = read(tmp_path / "t.json", [entry], "vidstg", trajectories=vidor).good
    assert one.tube.span == (30, 39)
    with pytest.raises(DataError, match="ends at frame 50, used_segment at 49"):
        read(tmp_path / "t.json", [entry], "vidstg", trajectories=vidor, end_included=True)


def test_spoiled_vidstg_entries_are_listed(tmp_path: Path, vidor: str) -> None:
    entry = vidstg_entry(temporal_gt={"begin_fid": 20, "end_fid": 35})
    with pytest.raises(DataError, match=r"row 1, questions\[0\]: object 1 has no box in frame 30"):
        read(tmp_path / "t.json", [entry], "vidstg", trajectories=vidor)
    found = read(tmp_path / "t.json", [entry], "vidstg", skip=True, trajectories=vidor)
    assert (len(found.good), len(found.skipped)) == (1, 1)
    with pytest.raises(ConfigError, match="trajectories"):
        read(tmp_path / "t.json", [entry], "vidstg")
    with pytest.raises(DataError, match=r"no 7\.json there or below"):
        read(tmp_path / "t.json", [vidstg_entry(vid="7")], "vidstg", trajectories=vidor)


# ---------------------------------------------------------------- Charades-STA


def test_charades_sta_gives_spans_without_boxes(tmp_path: Path) -> None:
    write_video(tmp_path / "AO8RW.mkv", moving_square(40))
    lines = (
        "AO8RW 0.0 2.5##a person is putting a book on a shelf.\nAO8RW 3.0 9.9##person sits down.\n"
    )
    path = tmp_path / "charades_sta_test.txt"
    first, second = read(path, lines, "charades_sta", check_videos=True).good
    assert first.spans_s == ((0.0, 2.5),)
    assert (first.num_frames, first.fps, first.tube) == (40, 8.0, None)
    assert first.video.endswith("AO8RW.mkv"), "published endings are mixed"
    # The second one ends after its 5 s: kept here, clipped by the task on both sides.
    assert second.spans_s == ((3.0, 9.9),)
    task = VideoGrounding(
        VideoGrounding.Options(
            data={"test": {"path": str(path), "format": "charades_sta"}},
            answer="temporal",
            prompt="When does it happen? {sentence}",
        )
    )
    sample = task.samples("test")[1]
    assert sample.target.spans == ((3.0, 5.0),)
    answer = task.parse(sample, "<think>.</think><answer>3.0 to 9.9</answer>")
    assert answer.spans == ((3.0, 5.0),)
    numbered = VideoGrounding(VideoGrounding.Options(data=task.options.data))
    with pytest.raises(ConfigError, match="times and no boxes"):
        numbered.samples("test")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AO8RW 2.0 2.0##sits", "no length"),
        ("AO8RW 3.0 2.0##sits", "no length"),
        ("AO8RW 2.0##sits", "a line must be"),
        ("AO8RW 1.0 2.0##", "a line must be"),
        ("AO8RW 7.0 8.0##sits", "starts at 7 s, the video has 5.00 s"),
        ("XXXXX 1.0 2.0##sits", "no video"),
    ],
)
def test_dirty_charades_lines_are_listed(tmp_path: Path, line: str, message: str) -> None:
    write_video(tmp_path / "AO8RW.mkv", moving_square(40))
    text = f"{line}\nAO8RW 0.0 2.5##ok\n"
    with pytest.raises(DataError, match=f"line 1: .*{message}"):
        read(tmp_path / "c.txt", text, "charades_sta", check_videos=True)
    found = read(tmp_path / "c.txt", text, "charades_sta", skip=True, check_videos=True)
    assert (len(found.good), len(found.skipped)) == (1, 1)
    with pytest.raises(ConfigError, match="check_videos"):
        read(tmp_path / "c.txt", text, "charades_sta")


def test_videos_are_found_one_level_below(tmp_path: Path) -> None:
    (tmp_path / "videos" / "3").mkdir(parents=True)
    frames = np.zeros((500, 100, 200, 3), np.uint8)
    write_video(tmp_path / "videos" / "3" / "55_vfjywN5CN0Y.mkv", frames, fps=25)
    (one,) = read(
        tmp_path / "a.json",
        {NAME: V1},
        "hcstvg",
        check_videos=True,
        video_root=str(tmp_path / "videos"),
    ).good
    assert one.video.endswith("3/55_vfjywN5CN0Y.mkv")
    with pytest.raises(DataError, match=r"no video .*other.mp4"):
        read(tmp_path / "b.json", {"other.mp4": V1}, "hcstvg", check_videos=True)


def test_options_of_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no use for trajectories"):
        read(tmp_path / "a.json", {NAME: V1}, "hcstvg", trajectories="x")
    with pytest.raises(DataError, match="not videos by name"):
        read(tmp_path / "a.json", [V1], "hcstvg")
