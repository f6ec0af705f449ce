"""The GUI-grounding task: samples, reading of answers, metrics."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from vlrl.build import provided
from vlrl.errors import ConfigError
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.gui.syntax import write_answer
from vlrl.protocols import Task
from vlrl.tasks.gui_grounding import GuiGrounding, GuiTarget
from vlrl.types import Finish, ImagePart, Rollout, Sample, TextPart

ROW = {
    "id": "e1",
    "image": "a.png",
    "image_size": [1920, 1080],
    "instruction": "Click {this}",
    "bbox": [100, 100, 200, 140],
    "kind": "label",
    "element_type": "text",
    "app": "mail",
    "platform": "web",
}


def task_on(tmp_path, rows=(ROW,), **options) -> GuiGrounding:
    """A task over a file of these rows."""
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    data = {"train": {"path": str(path), "check_images": False}}
    return GuiGrounding(GuiGrounding.Options(data=data, **options))


def answered(task, sample, text) -> Rollout:
    """A rollout with this answer, read."""
    return Rollout(sample, 0, 0, text, Finish.STOP, 1, 0, parsed=task.parse(sample, text))


def test_a_row_becomes_a_sample_with_its_prompt_filled_in(tmp_path):
    task = task_on(tmp_path, prompt="{instruction} as {x}")
    assert isinstance(task, Task)
    assert set(task.provides) <= set(provided())
    (sample,) = task.samples("train")
    assert task.samples("train") is task.samples("train")
    assert sample.id == "e1"
    image, text = sample.prompt[0].parts
    assert image == ImagePart(str(tmp_path / "a.png"), 1920, 1080)
    assert text == TextPart("Click {this} as {x}")
    assert sample.target.app == "mail"
    assert sample.columns["bbox"] == [100, 100, 200, 140]
    assert sample.columns["image_size"] == [1920, 1080]


def test_answers_are_read_in_the_resized_image(tmp_path):
    task = task_on(tmp_path)
    (sample,) = task.samples("train")
    # The model sees 1932 x 1092; unscaled answers would be off by 0.6 % and 1.1 %.
    answer = task.parse(sample, "[0,0,1932,1092]")
    assert answer.box.xyxy == pytest.approx((0, 0, 1920, 1080))
    assert answer.well_formed
    small = task_on(tmp_path, max_pixels=100_352, min_pixels=3_136)
    assert small.resized(sample) == Frame(420, 224)


@pytest.mark.parametrize("profile", ["gui_g2", "gui_g1", "qwen3_vl", "gta1", "kimi_vl", "mai_ui"])
def test_a_written_answer_hits(tmp_path, profile):
    task = task_on(tmp_path, profile=profile)
    (sample,) = task.samples("train")
    text = write_answer(sample.target.box, task.profile, task.resized(sample))
    metrics = task.metrics([answered(task, sample, text)])
    assert metrics["hit"] == [1.0]
    assert metrics["well_formed"] == [1.0]
    if task.profile.kind == "box":
        assert metrics["iou"][0] > 0.9
        assert metrics["size_ratio"][0] == pytest.approx(1.0, abs=0.05)
    else:
        assert math.isnan(metrics["iou"][0])


def test_metrics_by_hand(tmp_path):
    task = task_on(tmp_path, [{**ROW, "image_size": [1932, 1092]}])
    (sample,) = task.samples("train")
    texts = ["[100,100,200,140]", "[50,80,250,160]", "(150,120)", "no", "[200,140,100,100]"]
    metrics = task.metrics([answered(task, sample, text) for text in texts])
    assert metrics["hit"] == [1, 1, 1, 0, 1]
    assert metrics["iou"] == [1, 0.25, 0, 0, 0]
    assert metrics["size_ratio"][:2] == pytest.approx([1, 2])
    assert all(math.isnan(ratio) for ratio in metrics["size_ratio"][2:])
    assert metrics["well_formed"] == [1, 1, 0, 0, 1]
    assert task.parse(sample, None) is None


def test_a_click_hits_a_polygon_only_inside_it(tmp_path):
    task = task_on(tmp_path)
    frame = Frame(1932, 1092)
    corners = tuple(Point(x, y, frame) for x, y in ((0, 0), (100, 0), (0, 100)))
    target = GuiTarget(Box(0, 0, 100, 100, frame), polygon=corners)
    sample = Sample("p", "gui_grounding", (), target)
    texts = ["(10,10)", "(90,90)", "(50,50)", "(100,0)", "(0,50)", "(-1,50)", "(101,0)"]
    metrics = task.metrics([answered(task, sample, text) for text in texts])
    assert metrics["hit"] == [1, 0, 1, 1, 1, 0, 0]


def test_skipped_rows_are_listed(tmp_path):
    task = task_on(tmp_path, [ROW, {**ROW, "id": "e2", "bbox": None}], on_bad_row="skip")
    assert len(task.samples("train")) == 1
    assert len(task.skipped["train"]) == 1
    assert "row 2" in task.skipped["train"][0]


def test_mistakes_in_options_are_named(tmp_path):
    with pytest.raises(ValidationError, match=r"needs \{instruction\}"):
        task_on(tmp_path, prompt="Where?")
    with pytest.raises(ValidationError, match="Extra inputs"):
        task_on(tmp_path, profil="gui_g2")
    with pytest.raises(ConfigError, match="did you mean 'gui_g2'"):
        task_on(tmp_path, profile="gui_g3")
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        task_on(tmp_path).samples("trian")
