"""What a run writes: metrics, evaluations, images, the report."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers_runs import small_run
from hypothesis import example, given
from hypothesis import strategies as st

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import LogConfig, OptimConfig, RunConfig
from vlrl.distributed.comm import World
from vlrl.distributed.schedule import lr_factor
from vlrl.errors import ConfigError, DataError
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.geometry.overlay import TRUE_COLOUR, Mark, overlay
from vlrl.log.console import StepConsole, task_columns
from vlrl.log.metrics import Meter
from vlrl.log.report.charts import axis_ticks, line_chart, running_mean
from vlrl.log.report.files import read_run
from vlrl.log.report.write import write_report
from vlrl.log.sinks import JsonLines, open_sinks
from vlrl.stats import bootstrap_difference, bootstrap_mean, evenly
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.train.summary import summarise

ALONE = World(0, 1, torch.device("cpu"))


def test_means_are_sums_and_counts() -> None:
    meter = Meter()
    meter.add("a", [1.0, 2.0])
    meter.add("a", [6.0])
    meter.add_sum("b", 10.0, 4.0)
    meter.maximum("c", 1.0)
    meter.maximum("c", 3.0)
    meter.add("never", [])
    with meter.timed("work"):
        pass
    metrics = meter.reduce(ALONE)
    assert metrics.pop("time/work_s") >= 0
    assert metrics == {"a": 3.0, "b": 2.5, "c": 3.0}


def test_a_nan_is_not_lost_among_maxima() -> None:
    meter = Meter()
    meter.maximum("c", math.nan)
    meter.maximum("c", 1.0)
    assert math.isnan(meter.reduce(ALONE)["c"])


def test_json_lines_go_on_where_a_run_resumes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path, 0)
    for step in (1, 2, 3):
        sink.write(step, {"x": step, "bad": math.nan})
    sink.close()
    # A kill in the middle of a line.
    path.write_text(path.read_text() + '{"step": 4, "x"', encoding="utf-8")
    sink = JsonLines(path, 2)
    sink.write(3, {"x": 30})
    sink.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["bad"] is None
    assert rows[2]["x"] == 30


def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    sinks = open_sinks(LogConfig(tensorboard=True), tmp_path, "run", {}, 0)
    for sink in sinks:
        sink.write(1, {"reward/mean": 0.5})
        sink.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Scalars("reward/mean")[0].value == pytest.approx(0.5)


def test_a_tracker_that_does_not_start_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: object) -> None:
        raise RuntimeError("api_key not configured\nand more")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(ConfigError, match=r"api_key not configured\); use `wandb login`, WANDB_M"):
        open_sinks(LogConfig(wandb=True), tmp_path, "run", {}, 0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_the_interval_holds_the_mean(values: list[float]) -> None:
    result = bootstrap_mean(values, 200)
    assert result["low"] - 1e-12 <= result["mean"] <= result["high"] + 1e-12
    assert result["num"] == len(values)


def test_a_paired_interval_is_narrower_than_an_unpaired_one() -> None:
    before = [float(i % 2) for i in range(200)]
    after = [min(1.0, v + (i % 10 == 0)) for i, v in enumerate(before)]
    change = bootstrap_difference(before, after)
    assert change["mean"] == pytest.approx(0.1)
    assert change["low"] > 0
    with pytest.raises(ValueError, match="not paired"):
        bootstrap_difference([1.0], [1.0, 2.0])


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = [float(i % 4 == 0) for i in range(400)]
    result = bootstrap_mean(values, 4000)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert result["high"] - result["mean"] == pytest.approx(half, rel=0.15)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
@example(225180.0, 1e-10)
@example(1e6, 1e-3)
def test_ticks_span_the_data(low: float, size: float) -> None:
    ticks = axis_ticks(low, low + size)
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 8
    # Less than a pixel of a chart of this span.
    slack = 1e-6 * max(1, abs(low), size)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + size - slack


def test_a_chart_leaves_out_what_is_not_finite() -> None:
    svg = line_chart("a <b>", {"x": [(1, 1.0), (2, math.nan), (3, 2.0)]})
    assert "a &lt;b&gt;" in svg
    assert "nan" not in svg
    assert line_chart("empty", {"x": [(1, math.inf)]}) == ""
    assert running_mean([(0, 0.0), (1, 3.0)], 9) == [(0, 1.5), (1, 1.5)]


def test_the_overlay_draws_the_truth_and_survives_any_answer() -> None:
    from PIL import Image, ImageColor

    frame = Frame(100, 100)
    image = Image.new("RGB", (100, 100), "white")
    true = Box(10, 10, 40, 40, frame)
    wild = [Box(-1e9, 5, 1e9, 9, frame), Box(50, 50, 20, 20, frame), Box(0, 0, 1e308, 1e308, frame)]
    marks = [Mark(box, box.centre) for box in wild] + [Mark(None, Point(50, 50, frame))]
    drawn = overlay(image, true, marks)
    assert drawn.getpixel((10, 30)) == ImageColor.getrgb(TRUE_COLOUR)
    assert image.getpixel((10, 30)) == (255, 255, 255)


def test_the_learning_rate_follows_each_schedule() -> None:
    def factors(schedule: str, floor: float = 0.0) -> list[float]:
        options = OptimConfig(schedule=schedule, num_warmup_steps=2, min_lr_ratio=floor)
        return [lr_factor(step, options, 10) for step in (0, 1, 2, 6, 10)]

    assert factors("constant") == [0.5, 1.0, 1.0, 1.0, 1.0]
    assert factors("linear", 0.2) == pytest.approx([0.5, 1.0, 1.0, 0.6, 0.2])
    assert factors("cosine") == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_spread_is_even_and_whole() -> None:
    assert evenly(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert evenly(list(range(3)), 0) == evenly(list(range(3)), 9) == [0, 1, 2]


def test_summaries_leave_out_what_does_not_apply() -> None:
    rows = [
        {"metrics": {"hit": 1.0, "size": None}, "strata": {"kind": "a"}},
        {"metrics": {"hit": 0.0, "size": 3.0}, "strata": {"kind": "b"}},
    ]
    summary = summarise(rows, 50)
    assert summary["overall"]["hit"]["mean"] == 0.5
    assert summary["overall"]["size"] == {"mean": 3.0, "low": 3.0, "high": 3.0, "num": 1}
    assert summary["strata"]["kind"]["a"]["hit"] == {"mean": 1.0, "num": 1}


def test_a_whole_run_with_its_report(
    checkpoints: dict[str, Path],
    screens: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before and after, groups with images, curves; one file, nothing loaded from outside."""
    config = small_run(
        checkpoints["qwen2_5_vl"],
        screens,
        tmp_path,
        "reported",
        task__data={"train": {"path": str(screens)}, "held": {"path": str(screens)}},
        eval={"splits": ["held"], "batch_size": 5, "num_bootstrap": 50},
        log__rollouts_every=2,
    )
    trainer = build_trainer(check(RunConfig, config), None)
    trainer.train()
    html = write_report(trainer.folder).read_text(encoding="utf-8")
    assert html.count("<svg") >= 5
    assert html.count("data:image/webp;base64,") >= 20
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "Held-out screens" in html
    assert "best answer" in html
    rows = (trainer.folder / "evaluations/after/held.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == [f"s{i}" for i in range(12)]
    last = json.loads((trainer.folder / "metrics.jsonl").read_text().splitlines()[-1])
    times = [k for k in last if k.startswith("time/")]
    assert times == [
        f"time/{n}_s" for n in ("prompts", "reference", "sampling", "scoring", "update")
    ]
    with pytest.raises(DataError, match="is it the folder of a run"):
        write_report(tmp_path / "elsewhere")
    _half_written_files_are_left_out(trainer.folder, caplog)


def _half_written_files_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of file of a report, cut as a kill leaves it: named, and the rest is shown."""
    names = [
        "evaluations/before/held.json",
        "evaluations/after/held.jsonl",
        "evaluations/after/images/held-00.json",
        "rollouts/step-000002/group-0.json",
    ]
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole) - 2):
            caplog.clear()
            path.write_bytes(whole[:size])
            assert "<svg" in write_report(folder).read_text(encoding="utf-8")
            assert name in caplog.text or (size == 0 and path.suffix == ".jsonl")
        path.write_bytes(whole)
    metrics = folder / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n{"step" 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: not valid JSON"):
        write_report(folder)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_screen_shows_the_tasks_metrics(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    columns = task_columns(GuiGrounding)
    with StepConsole("run", 2, 0, show=True, quiet=False, columns=columns) as console:
        console.note({"held/accuracy": 0.25})
        console.advance(1, {"reward/mean": 0.5, "rollout/hit": 0.75, "time/update_s": 1.0})
    shown = capsys.readouterr().err
    assert "held/accuracy 0.25" in shown
    if not is_terminal:  # a bar is as wide as the terminal
        assert "reward 0.500  hit rate 75.0%  | s: update 1.0" in shown


def test_splits_stand_in_the_report_as_in_the_config(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "config.yaml").write_text("eval: {splits: [new_screens, held_out]}\n")
    place = read_run(tmp_path).place
    assert sorted(["held_out", "b", "new_screens", "a"], key=place) == [
        "new_screens",
        "held_out",
        "a",
        "b",
    ]
    (tmp_path / "config.yaml").unlink()
    assert sorted(["b", "a"], key=read_run(tmp_path).place) == ["a", "b"]
