"""Training on videos from end to end, and the report of such a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_runs import small_run
from helpers_video import credit_run, moving_square, write_video
from test_video_task import perfect, row

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.log.metrics import Meter
from vlrl.log.report.write import write_report
from vlrl.log.rollouts import record_groups
from vlrl.tasks.video_grounding import VideoGrounding
from vlrl.train.evaluation_files import write_evaluation
from vlrl.train.summary import rows_of, summarise
from vlrl.types import Finish, Rollout, Score
from vlrl.video.track_answers import write_track

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mkv", moving_square(40))
    rows = [row(first=first, last=first + 9, id=f"c{first}") for first in (0, 4, 8, 12, 20, 24)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in rows), encoding="utf-8")
    return path


def video_run(model: Path, clips: Path, out: Path, name: str, **over: Any) -> dict[str, Any]:
    config = small_run(model, clips, out, name, **over)
    config["task"] = {
        "use": "video_grounding",
        "prompt": "Find: {sentence}",
        "longer_side_px": 56,
        "data": {"train": {"path": str(clips)}},
    }
    return config


def test_a_run_on_videos(checkpoints: dict[str, Path], clips: Path, tmp_path: Path) -> None:
    """Sampling, update, evaluation and report; shared and plain prompts train alike."""
    weights, losses = [], []
    for share in ("on", "off"):
        over = {"policy__share_prompt": share, "num_steps": 2, "log__report": True}
        config = video_run(checkpoints["qwen2_5_vl"], clips, tmp_path, share, **over)
        config["eval"] = {"splits": ["train"], "batch_size": 4}
        config["log"]["rollouts_every"] = 1
        trainer = build_trainer(check(RunConfig, config), None)
        trainer.train()
        lines = (tmp_path / share / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps = [json.loads(line) for line in lines]
        assert steps[0]["update/ratio"] == 1.0
        assert {"rollout/t_iou", "rollout/v_iou", "rollout/consistent"} <= set(steps[0])
        losses.append([step["update/loss"] for step in steps])
        weights.append(
            np.concatenate([p.detach().numpy().ravel() for p in trainer.policy.module.parameters()])
        )
        summary = json.loads((tmp_path / share / "evaluations/after/train.json").read_text())
        assert summary["num_samples"] == 6
        assert list((tmp_path / share / "evaluations/after/images").glob("*.webp"))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert np.median(np.abs(weights[0] - weights[1])) < 1e-6
    assert "Held-out videos" in write_report(tmp_path / "on").read_text(encoding="utf-8")


def test_every_box_has_an_advantage_of_its_own(tmp_path: Path) -> None:
    """The shipped config and model: a token gets the advantage of its own frame, and trains."""
    trainer = build_trainer(credit_run(tmp_path), None)
    experience = trainer.collect(Meter())
    batch = trainer.prepare(experience, Meter())
    rewards, stage = experience.rewards, batch.trajectory.stage
    assert rewards.shape == (8, 13)
    assert stage is not None
    tokenizer = trainer.policy.processor.tokenizer
    for b, rollout in enumerate(experience.rollouts):
        mask = batch.trajectory.mask[b]
        answer = rollout.parsed
        for which, base in ((answer.think, 1), (answer.final, 7)):
            for frame in which.boxes:
                here = mask & (stage[b] == base + frame)
                text = tokenizer.decode(batch.trajectory.tokens[b, here].tolist())
                assert text.startswith(f"{frame}.[")
                group = rewards[b // 4 * 4 : b // 4 * 4 + 4, base + frame]
                mine = rewards[b, base + frame]
                wanted = 0.0 if mine.isnan() else float(mine - group.nanmean())
                assert batch.advantage[b, here].tolist() == pytest.approx(
                    [wanted] * int(here.sum()), abs=1e-5
                )
    trainer.train()


def test_the_report_of_answers_before_and_after(clips: Path, tmp_path: Path) -> None:
    task = VideoGrounding(VideoGrounding.Options(data={"held_out": {"path": str(clips)}}))
    samples = task.samples("held_out")
    folder = tmp_path / "run"
    folder.mkdir()
    metrics = {"reward/mean": 0.5, "rollout/v_iou": 0.2, "time/sampling_s": 1.0}
    lines = "".join(json.dumps({"step": k, **metrics}) + "\n" for k in (1, 2))
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    (folder / "config.yaml").write_text("task: {use: video_grounding}\n", encoding="utf-8")
    lost = write_track(7, 9, [[1, 2, 30, 40]] * 3, [[50, 40, 100, 80]] * 3)
    for label in ("before", "after"):
        rollouts = []
        for sample in samples:
            output = lost if label == "before" else perfect(task, sample)
            rollout = Rollout(sample, 0, 0, output, Finish.STOP, 2, 0, task.parse(sample, output))
            rollouts.append(rollout)
        rows = rows_of(task, rollouts, {})
        out = folder / "evaluations" / label
        write_evaluation(out, "held_out", rows, summarise(rows, 50), task, rollouts)
    for place, rollout in enumerate(rollouts[:2]):
        rollout.sample, rollout.index = samples[0], place
        rollout.score = Score(1.0 - place, {"tube_iou": 1.0 - place})
    record_groups(folder, 1, task, rollouts[:2], 1)
    html = write_report(folder).read_text(encoding="utf-8")
    for piece in (
        "Held-out videos",
        "vIoU, held_out",
        "tIoU, held_out",
        'class="pair wide"',
        'class="group wide"',
        "the bars below are time",
        "vIoU by kind",
    ):
        assert piece in html, piece
