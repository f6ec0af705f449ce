"""The video task on a small video: prompts, reading of answers, metrics and images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_video import moving_square, write_video
from PIL import Image
from test_policy import make_policy

from vlrl.build import build_task, check_plugins
from vlrl.config.resolve import load_run_config
from vlrl.errors import ConfigError, DataError
from vlrl.eval.recipe import Recipe
from vlrl.families.resize import smart_resize, video_size
from vlrl.media.video import read_frames, video_info
from vlrl.reward.trl import as_chat
from vlrl.tasks.video_grounding import VideoGrounding, video_part
from vlrl.types import Finish, Rollout
from vlrl.video.track_answers import write_track

ROOT = Path(__file__).resolve().parent.parent
FRAMES = moving_square(40)
"""5 s at 8 frames/s; the square of frame t is at (5 + 2 t, 8 + t), 24 px wide, until 37."""


def row(name: str = "clip.mkv", first: int = 8, last: int = 23, **over: Any) -> dict[str, Any]:
    boxes = [[5 + 2 * t, 8 + t, 29 + 2 * t, 32 + t] for t in range(first, last + 1)]
    return {
        "id": f"{name}-{first}",
        "video": name,
        "width": 112,
        "height": 84,
        "fps": 8,
        "num_frames": 40,
        "sentence": "the square {first}",
        "first_frame": first,
        "boxes": boxes,
        "kind": "move",
        **over,
    }


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three rows about one video, as a file and as a folder of frames."""
    write_video(tmp_path / "clip.mkv", FRAMES)
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(folder / f"{k:03d}.png")
    rows = [row(), row("frames"), row(first=10, last=11)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in rows), encoding="utf-8")
    return path


def task_of(path: Path, **over: Any) -> VideoGrounding:
    return VideoGrounding(VideoGrounding.Options(data={"train": {"path": str(path)}}, **over))


def rollout_of(task: VideoGrounding, sample: Any, output: str) -> Rollout:
    rollout = Rollout(sample, 0, 0, output, Finish.STOP, 0, 0)
    rollout.parsed = task.parse(sample, output)
    return rollout


def perfect(task: VideoGrounding, sample: Any, **options: Any) -> str:
    """The true boxes as an answer, in the task's own coordinates."""
    truth = sample.target.track
    scale = {"unit": 1.0, "thousand": 1000.0}.get(task.options.coordinates)
    boxes = truth.boxes
    if scale is not None:
        boxes = boxes / [112, 84, 112, 84] * scale
    think = boxes if task.form.has_thinking else None
    return write_track(truth.first, truth.last, think, boxes, **options)


def test_files_folders_and_arrays_give_the_same_frames(clips: Path) -> None:
    wanted = [0, 7, 8, 39]
    file, folder = clips.parent / "clip.mkv", clips.parent / "frames"
    assert np.array_equal(read_frames(file, wanted), FRAMES[wanted])
    assert np.array_equal(read_frames(folder, wanted), FRAMES[wanted])
    assert np.array_equal(read_frames(FRAMES, wanted), FRAMES[wanted])
    info = video_info(file)
    assert (info.num_frames, info.width_px, info.height_px, info.fps) == (40, 112, 84, 8.0)
    assert video_info(folder).num_frames == 40
    # A count that is off by one or two is accepted, more is not.
    assert np.array_equal(read_frames(file, [40, 41])[1], FRAMES[39])
    with pytest.raises(DataError, match="has 40 frames; frame 42 is out of range"):
        read_frames(file, [42])
    with pytest.raises(DataError, match="no video file"):
        read_frames("http://localhost/clip.mp4", [0])
    (clips.parent / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="cannot be read as a video"):
        read_frames(clips.parent / "bad.mp4", [0])


def test_a_sentence_becomes_a_sample(clips: Path) -> None:
    task = task_of(
        clips, prompt="{num_frames} frames, {first} to {last}, {duration_s} s: {sentence}"
    )
    sample = task.samples("train")[0]
    assert sample.texts == ["10 frames, 0 to 9, 5.0 s: the square {first}"]
    assert video_part(sample).frames == tuple(range(0, 40, 4))
    target = sample.target
    assert target.track.span == (2, 5), "frames 8, 12, 16, 20"
    assert target.tube.span == (8, 23)
    assert target.track.at(3).tolist() == [29, 20, 53, 44]
    assert [one.time_s for one in target.timed] == [1.0, 1.5, 2.0, 2.5]
    assert task.difficulty(sample) == pytest.approx(24 * 24 / (112 * 84))
    assert task.strata(sample) == {"kind": "move"}
    # Two native frames between two sampled ones: one index, the earlier of two equally near.
    assert task.samples("train")[2].target.track.span == (2, 2)


@pytest.mark.parametrize("coordinates", ["resized_px", "original_px", "thousand", "unit"])
@pytest.mark.parametrize("index", ["sampled_frame", "second", "native_frame"])
@pytest.mark.parametrize("start_at", [0, 1])
def test_a_perfect_answer_in_every_unit(
    clips: Path, coordinates: str, index: str, start_at: int
) -> None:
    task = task_of(clips, coordinates=coordinates, index=index, start_at=start_at, edges="after")
    # The square moves evenly, so that boxes between the given ones are exact; after the last one
    # the box does not move, for half a second or a second.
    least = {"native_frame": 0.999, "sampled_frame": 0.9, "second": 0.7}[index]
    for sample in task.samples("train")[:2]:
        rollout = rollout_of(task, sample, perfect(task, sample, decimals=6))
        metrics = {name: column[0] for name, column in task.metrics([rollout]).items()}
        assert metrics["v_iou"] > least
        assert metrics["t_iou"] == pytest.approx(1.0)
        assert metrics["consistent"] == 1.0
        assert metrics["v_iou_above_0.5"] == 1.0


def test_well_formed_and_consistent_are_two_things(clips: Path) -> None:
    task = task_of(clips)
    sample = task.samples("train")[0]
    good = perfect(task, sample)
    cut = good[: good.rindex("5.")]
    cases = {
        good: (1, 1),
        good.replace("<time> 2 - 5", "<time> 2 - 4"): (1, 0),
        good.replace("<time> 2 - 5", "<time> 5 - 2"): (1, 0),
        cut: (0, 0),
        "nothing": (0, 0),
        "": (0, 0),
    }
    for text, wanted in cases.items():
        metrics = task.metrics([rollout_of(task, sample, text)])
        assert (metrics["well_formed"][0], metrics["consistent"][0]) == wanted, text
        if wanted == (0, 0) and text != cut:
            assert task.parse(sample, text) is None
            assert metrics["t_iou"] == metrics["v_iou"] == [0.0]
    # Three of four boxes are there: the last one is used for the rest of the span.
    assert task.metrics([rollout_of(task, sample, cut)])["v_iou"][0] > 0.5
    assert task.parse(sample, None) is None


@pytest.mark.parametrize(("duplicates", "wanted"), [("last", 9), ("first", 1), ("drop", None)])
def test_of_boxes_for_the_same_frame_one_counts(
    clips: Path, duplicates: str, wanted: float | None
) -> None:
    task = task_of(clips, duplicates=duplicates, answer="stvg")
    sample = task.samples("train")[0]
    text = "<time>2-2</time><pred_bbox>2.[1,2,30,40],2.[9,9,30,40]</pred_bbox>"
    answer = task.parse(sample, text)
    assert answer is not None
    assert answer.well_formed
    assert not answer.consistent
    assert (answer.final.boxes[2][0] if wanted else answer.final.boxes.get(2)) == wanted


def test_answers_with_times_only(clips: Path) -> None:
    task = task_of(clips, answer="temporal", prompt="When? {sentence}")
    sample = task.samples("train")[0]
    assert sample.target.spans == ((1.0, 3.0),)
    rollout = rollout_of(task, sample, "<think>so</think><answer>1.0 to 4.0</answer>")
    assert rollout.parsed.spans == ((1.0, 4.0),)
    metrics = task.metrics([rollout])
    assert metrics["t_iou"] == [pytest.approx(2 / 3)]
    assert metrics["t_iou_at_least_0.5"] == [1.0]
    assert metrics["t_iou_at_least_0.7"] == [0.0]
    tie = rollout_of(task, sample, "<think>so</think><answer>1.0 to 2.0</answer>")
    assert task.metrics([tie])["t_iou_at_least_0.5"] == [1.0], "R1@m counts a tie"
    assert all(math.isnan(metrics[name][0]) for name in ("v_iou", "gt_v_iou", "v_iou_above_0.5"))


def test_truth_and_answers_are_drawn_on_a_contact_sheet(clips: Path) -> None:
    task = task_of(clips)
    sample = task.samples("train")[0]
    true = rollout_of(task, sample, perfect(task, sample))
    wrong = rollout_of(task, sample, "<time>0-1</time><pred_bbox>0.[1,2,30,40]</pred_bbox>")
    lost = rollout_of(task, sample, "nothing")
    image = task.draw(sample, [true, wrong, lost])
    assert image.width == 10 * 114 - 2
    assert image.height == 84 + 3 * 10, "three bars: truth and two answers"
    plain = task.draw(sample, [])
    assert plain.height == 84 + 10
    assert np.asarray(plain)[:84].tolist() != np.asarray(image)[:84].tolist()


def test_the_policys_frames_are_the_tasks(clips: Path, checkpoints: dict[str, Path]) -> None:
    for family in ("qwen2_5_vl", "qwen3_vl"):
        policy = make_policy(checkpoints[family])
        task_of(clips, profile=family).check_policy(policy.size_seen, "train")
        task_of(clips, profile=family, longer_side_px=64).check_policy(policy.size_seen, "train")
    with pytest.raises(ConfigError, match=r"resizes its video to .*profile"):
        task_of(clips).check_policy(policy.size_seen, "train")


@pytest.mark.parametrize("reward", ["stvg_o1", "tube_iou"])
def test_recipes_of_video_grounding_compose(reward: str) -> None:
    folder = ROOT / "configs/video_grounding"
    path = str(ROOT / f"configs/rewards/{reward}.yaml")
    config = check_plugins(load_run_config([folder / "tiny.yaml"], [], path))
    assert config.task["answer"] == "stvg_o1"
    alone = check_plugins(load_run_config([folder / "tiny.yaml", folder / "tiny_no_thinking.yaml"]))
    assert alone.task["answer"] == "stvg"
    assert "think" not in str(alone.reward)
    laid = [folder / "tiny.yaml", folder / "tiny_credit.yaml"]
    check_plugins(load_run_config(laid, [], str(ROOT / "configs/rewards/stvg_o1_credit.yaml")))
    recipe = Recipe.model_validate(build_task(alone).recipe())
    assert recipe.video is not None
    assert recipe.video["answer"] == "stvg"
    assert recipe.video["edges"] == "after"


def test_trl_rewards_see_a_video(clips: Path) -> None:
    task = task_of(clips)
    rollout = rollout_of(task, task.samples("train")[0], "x")
    assert [part["type"] for part in as_chat(rollout)[0]["content"]] == ["video", "text"]


def test_options_are_checked(clips: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'stvg_o1'"):
        task_of(clips, answer="stvgo1")
    with pytest.raises(ValueError, match=r"needs \{sentence\}"):
        task_of(clips, prompt="Find it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[5, 8, 5, 32]]}, r"row 1.*frame 8 is empty"),
        ({"boxes": [[5, 8, 500, 32]]}, r"row 1.*exceeds its image"),
        ({"boxes": [[5, 8, math.pi]]}, r"row 1.*four numbers"),
        ({"boxes": "all"}, r"row 1.*four numbers"),
        ({"first_frame": 30}, r"row 1.*frames 30 to 45, but the clip has 40"),
        ({"fps": 0}, r"row 1.*'fps'"),
        ({"num_frames": 4.5}, r"row 1.*'num_frames' must be a whole number"),
        ({"sentence": " "}, r"row 1.*'sentence'"),
        ({"video": "lost.mp4"}, r"row 1.*no video"),
    ],
)
def test_bad_rows_name_file_row_and_field(
    clips: Path, change: dict[str, Any], message: str
) -> None:
    path = clips.parent / "bad.jsonl"
    path.write_text(
        "\n".join(json.dumps(one) for one in ({**row(), **change}, row("frames"))), encoding="utf-8"
    )
    with pytest.raises(DataError, match=message):
        task_of(path).samples("train")
    task = task_of(path, on_bad_row="skip")
    assert len(task.samples("train")) == 1
    assert len(task.skipped["train"]) == 1


def test_videos_are_resized_as_in_stvg_o1() -> None:
    """STVG-o1: longer side at most 336, aspect kept, multiples of 28."""
    assert video_size(1080, 1920, 28, 336) == (196, 336)
    assert video_size(1920, 1080, 28, 336) == (336, 196)
    assert video_size(84, 112, 28, 336) == (84, 112)
    assert video_size(84, 112, 28, 60) == (56, 56)
    assert video_size(480, 640, 32, 336) == (256, 320)
    assert video_size(30, 30, 28, None) == smart_resize(30, 30, 28, 4 * 28 * 28) == (56, 56)
    with pytest.raises(ValueError, match="below one patch"):
        video_size(84, 112, 28, 20)
