"""`vlrl eval` on videos: precomputed answers and tubes, a resumed checkpoint, separate groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers_video import moving_square, write_video
from test_video_data import BOXES, CORNERS, NAME, V1, vidor, vidstg_entry

from vlrl.cli.main import main
from vlrl.eval.store import Store
from vlrl.eval.video.runner import ask_all
from vlrl.video.track_answers import write_track

__all__ = ["vidor"]


def clip_rows(count: int) -> list[dict[str, Any]]:
    """Clips of 40 frames at 8 per second; the box never moves, so sparse answers are exact."""
    return [
        {
            "id": f"c{k}",
            "video": "clip.mkv",
            "width": 112,
            "height": 84,
            "fps": 8,
            "num_frames": 40,
            "sentence": "the square" + " please" * k,
            "first_frame": 8,
            "boxes": [[20, 20, 60, 60]] * 16,
            "kind": "even" if k % 2 == 0 else "odd",
        }
        for k in range(count)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mkv", moving_square(40))
    lines = "\n".join(json.dumps(row) for row in clip_rows(5))
    (tmp_path / "held_out.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def run(*words: Any) -> int:
    return main(["eval", *map(str, words)])


def summary_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "summary.json").read_text(encoding="utf-8")))


def mean(summary: dict[str, Any], name: str, kind: str | None = None, group: str = "all") -> float:
    return float(summary["metrics"][kind or summary["convention"]][group][name]["mean"])


def given(data: Path, texts: list[str]) -> Path:
    path = data / "answers.jsonl"
    rows = [{"id": f"c{k}", "output": text} for k, text in enumerate(texts)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


EMBEDDED = Path(__file__).parents[1] / "assets/models/tiny_video"
RIGHT = write_track(2, 5, None, [[20, 20, 60, 60]] * 4)
LATE = write_track(4, 7, None, [[20, 20, 60, 60]] * 4)


@pytest.mark.parametrize("convention", ["official", "tubedetr", "cgstvg"])
def test_answers_made_elsewhere_are_scored(
    data: Path, convention: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = given(data, [RIGHT, RIGHT, LATE, "no idea", ""])
    out = data / "out"
    code = run(
        "--benchmark", "clips", "--data", data, "--predictions", answers, "--out", out,
        "--answer-format", "stvg", "--edges", "after", "--convention", convention,
    )  # fmt: skip
    assert code == 0
    summary = summary_of(out)
    # Two perfect, one shares 8 of 24 frames, two unreadable. CG-STVG's truth ends before its last
    # frame: 15 of 16 and 7 of 24.
    right, late = {"official": (1, 8 / 24), "tubedetr": (1, 8 / 24), "cgstvg": (15 / 16, 7 / 24)}[
        convention
    ]
    assert mean(summary, "t_iou") == pytest.approx((2 * right + late) / 5)
    assert mean(summary, "v_iou_above_0.5") == pytest.approx(2 / 5)
    assert summary["num_unreadable"] == 2
    assert mean(summary, "t_iou", group="kind: even") == pytest.approx((right + late) / 3)
    assert mean(summary, "t_iou", group="kind: odd") == pytest.approx(right / 2)
    printed = capsys.readouterr().out
    assert f"in the convention `{convention}`" in printed
    assert "| tubedetr" in printed
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[2])["span"] == [16, 31]
    assert json.loads(lines[3])["span"] is None


def test_missing_answers_are_an_error_unless_allowed(data: Path) -> None:
    answers = given(data, [RIGHT, RIGHT])
    words = ("--benchmark", "clips", "--data", data, "--predictions", answers, "--out", data / "o")
    assert run(*words, "--answer-format", "stvg") == 2
    assert run(*words, "--answer-format", "stvg", "--edges", "after", "--allow-missing") == 1
    summary = summary_of(data / "o")
    assert summary["num_failed"] == 3
    assert mean(summary, "t_iou") == pytest.approx(2 / 5), "absent videos stay in the denominator"


def tubes(shift: int, every: int = 1, number: int = 1) -> dict[str, Any]:
    """HC-STVG's official form; frames are numbered from `number`."""
    first = 30 + shift + number
    boxes = {str(first + k): CORNERS[k] for k in range(0, 5, every)}
    return {"st_frame": first, "ed_frame": first + 4, "bbox": boxes}


def hcstvg(tmp_path: Path, rows: dict[str, Any], predicted: dict[str, Any], *words: Any) -> Path:
    (tmp_path / "test.json").write_text(json.dumps(rows), encoding="utf-8")
    path = tmp_path / "tubes.json"
    path.write_text(json.dumps(predicted), encoding="utf-8")
    out = tmp_path / "out"
    code = run(
        "--benchmark", "hcstvg_v1", "--data", tmp_path, "--predictions", path, "--out", out,
        "--predictions-format", "tubes", *words,
    )  # fmt: skip
    assert code in (0, 1)
    return out


def test_given_tubes_in_the_official_form(tmp_path: Path) -> None:
    rows = {NAME: V1, "b.mp4": V1}
    out = hcstvg(tmp_path, rows, {NAME: tubes(0), "b": tubes(2)}, "--first-frame-number", "1")
    summary = summary_of(out)
    # The second one shares 3 of 7 frames, whose boxes are two pixels off in x.
    iou = 28 * 40 / (2 * 30 * 40 - 28 * 40)
    assert mean(summary, "t_iou") == pytest.approx((1 + 3 / 7) / 2)
    assert mean(summary, "v_iou") == pytest.approx((1 + 3 * iou / 7) / 2)
    for kind in ("official", "tubedetr", "cgstvg"):
        metrics = json.loads((out / "predictions.jsonl").read_text().splitlines()[0])["metrics"]
        wanted = dict.fromkeys(metrics[kind], 1.0)
        if kind == "cgstvg":  # four of five frames
            wanted |= {"t_iou": 0.8, "v_iou": 0.8}
        assert metrics[kind] == pytest.approx(wanted)
    assert summary["num_published"] == 1160


def test_frames_numbered_from_zero_are_one_late(tmp_path: Path) -> None:
    out = hcstvg(tmp_path, {NAME: V1}, {NAME: tubes(0)})
    assert mean(summary_of(out), "t_iou") == pytest.approx(4 / 6)
    out = hcstvg(tmp_path, {NAME: V1}, {NAME: tubes(0)}, "--published-start")
    assert mean(summary_of(out), "t_iou") == 1.0


def test_sparse_tubes_are_filled_where_asked(tmp_path: Path) -> None:
    sparse = {NAME: tubes(0, every=4, number=0)}
    out = hcstvg(tmp_path, {NAME: V1}, sparse)
    assert mean(summary_of(out), "v_iou") == pytest.approx(2 / 5)
    assert mean(summary_of(out), "t_iou") == pytest.approx(2 / 5), "official: only common boxes"
    out = hcstvg(tmp_path, {NAME: V1}, sparse, "--interpolate")
    assert mean(summary_of(out), "v_iou") == pytest.approx(1.0), "the boxes move evenly"
    assert BOXES[4][0] == BOXES[0][0] + 4


def test_a_missing_video_counts_zero(tmp_path: Path) -> None:
    rows = {NAME: V1, "b.mp4": V1}
    words = ("--first-frame-number", "1", "--allow-missing")
    summary = summary_of(hcstvg(tmp_path, rows, {NAME: tubes(0)}, *words))
    assert mean(summary, "t_iou") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ({"c.mp4": tubes(0)}, "no such sample"),
        ({NAME: {"st_frame": 3}}, "a tube has st_frame"),
        ([], "not tubes by video"),
    ],
)
def test_bad_tubes_are_named(
    tmp_path: Path, predicted: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.json").write_text(json.dumps({NAME: V1}), encoding="utf-8")
    (tmp_path / "t.json").write_text(json.dumps(predicted), encoding="utf-8")
    code = run(
        "--benchmark", "hcstvg_v1", "--data", tmp_path, "--predictions", tmp_path / "t.json",
        "--predictions-format", "tubes", "--out", tmp_path / "o",
    )  # fmt: skip
    assert code == 2
    assert message in capsys.readouterr().err


def test_vidstg_sentences_and_questions_apart(tmp_path: Path, vidor: str) -> None:
    path = tmp_path / "test_annotations.json"
    path.write_text(json.dumps([vidstg_entry()]), encoding="utf-8")
    ids = ("2793806282-1-caption-0", "2793806282-1-question-0")
    # At 2 and at 15 frames per second, the span 10 to 19 holds the sampled frame 15.
    texts = ("<time>2-2</time><pred_bbox>2.[25,5,45,45]</pred_bbox>", "?")
    answers = tmp_path / "a.jsonl"
    answers.write_text(
        "\n".join(json.dumps({"id": i, "output": t}) for i, t in zip(ids, texts, strict=True)),
        encoding="utf-8",
    )
    out = tmp_path / "out"
    code = run(
        "--benchmark", "vidstg", "--data", tmp_path, "--trajectories", vidor, "--predictions",
        answers, "--answer-format", "stvg", "--coordinates", "original_px", "--out", out,
    )  # fmt: skip
    assert code == 0
    summary = summary_of(out)
    assert mean(summary, "t_iou", group="question: declarative") > 0.5
    assert mean(summary, "t_iou", group="question: interrogative") == 0.0


def test_spans_alone_are_scored(tmp_path: Path) -> None:
    write_video(tmp_path / "AO8RW.mkv", moving_square(40))
    (tmp_path / "charades_sta_test.txt").write_text("AO8RW 1.0 9.0##sits\n", encoding="utf-8")
    answers = tmp_path / "a.jsonl"
    text = "<think>so</think><answer>3.0 to 7.0</answer>"
    answers.write_text(json.dumps({"id": "AO8RW-1", "output": text}), encoding="utf-8")
    out = tmp_path / "out"
    words = ("--benchmark", "charades_sta", "--data", tmp_path, "--predictions", answers)
    assert run(*words, "--out", out) == 0
    # The video has 5 s: truth and answer are both clipped to it.
    assert mean(summary_of(out), "t_iou") == pytest.approx(2 / 4)


def test_a_checkpoint_is_asked_and_a_killed_run_goes_on(
    data: Path, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--benchmark", "clips", "--data", data, "--model", checkpoints["qwen2_5_vl"],
        "--max-new-tokens", "6", "--batch-size", "2", "--longer-side-px", "56",
    ]  # fmt: skip
    assert run(*words, "--out", data / "whole") == 0
    whole = (data / "whole" / "answers.rank0.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(whole) == 5
    # A run that was killed in the middle of a line.
    killed = data / "killed"
    killed.mkdir()
    (killed / "run.json").write_text((data / "whole" / "run.json").read_text())
    (killed / "answers.rank0.jsonl").write_text("\n".join(whole[:2]) + "\n" + whole[2][:20])
    capsys.readouterr()
    assert run(*words, "--out", killed) == 0
    assert "3 of 3 answered" in capsys.readouterr().err, "two were known"
    outputs = [
        {row["id"]: row["output"] for row in map(json.loads, path.read_text().splitlines())}
        for path in (data / name / "predictions.jsonl" for name in ("whole", "killed"))
    ]
    assert outputs[0] == outputs[1]
    # Other settings are another run.
    assert run(*words, "--fps", "1", "--out", killed) == 2


@pytest.mark.slow
def test_the_embedded_model_finds_tubes(tmp_path: Path) -> None:
    """Questions about clips over photographs that it never saw."""
    out = tmp_path / "out"
    assert run("--benchmark", "clips", "--model", EMBEDDED, "--limit", "16", "--out", out) == 0
    found = summary_of(out)
    assert mean(found, "v_iou") > 0.15, "the best fixed box for the whole clip has 0.09"


def test_a_failed_answer_is_asked_again(data: Path) -> None:
    from vlrl.distributed.comm import init
    from vlrl.tasks.video_grounding import VideoGrounding
    from vlrl.types import Finish, Rollout

    source = {"path": str(data / "held_out.jsonl")}
    task = VideoGrounding(VideoGrounding.Options(data={"eval": source}))
    samples = list(task.samples("eval"))
    store = Store(data / "store")
    asked: list[str] = []

    class Parrot:
        def sample(self, batch: Any, num_each: int, seed: int, *, greedy: bool = False) -> Any:
            asked.extend(sample.id for sample in batch)
            return [Rollout(s, 0, 0, RIGHT, Finish.STOP, 1, 0) for s in batch], None

    world = init(timeout_s=60)
    store.open({})
    store.append(
        [
            {"id": "c0", "output": RIGHT, "error": None, "seconds": 0.0, "num_tokens": 1},
            {"id": "c1", "output": None, "error": "down", "seconds": 0.0, "num_tokens": 0},
        ]
    )
    answers = ask_all(samples, Parrot(), store, {}, world, 2)
    assert asked == ["c1", "c2", "c3", "c4"]
    assert all(one.output == RIGHT for one in answers.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--benchmark", "hcstvg_v1", "--predictions", "x.json"), "--data names the folder"),
        (("--benchmark", "clips", "--model", "m", "--zoom", "0.5"), "--zoom: read on GUI"),
        (("--benchmark", "clips"), "give one of"),
    ],
)
def test_mistakes_end_with_a_message_and_status_two(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert message in capsys.readouterr().err
