"""Damage that only shows when a file is decoded: left out where asked, else an error in time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import curve, run_job, small_run

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.errors import DataError
from vlrl.train.sampler import PromptSampler


@pytest.fixture
def config(checkpoints: dict[str, Path], hidden_damage: Path, tmp_path: Path) -> Any:
    def make(name: str, **over: Any) -> dict[str, Any]:
        options = {"task__on_bad_row": "skip", "log__rollouts_every": 1, **over}
        return small_run(checkpoints["qwen2_5_vl"], hidden_damage, tmp_path, name, **options)

    return make


def listed(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "unreadable.jsonl").read_text().splitlines()]


def without_times(config: dict[str, Any]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if "time/" not in k} for row in curve(config)]


def test_an_unreadable_sample_is_left_out_counted_and_listed(config: Any, tmp_path: Path) -> None:
    run_job({"config": config("run", num_steps=4)})
    assert [row["id"] for row in listed(tmp_path / "run")] == ["s3"]
    assert "images/3.png cannot be read" in listed(tmp_path / "run")[0]["error"]
    # 16 draws of 11 samples: it came up in the first epoch, and not again.
    assert [row.get("data/unreadable") for row in curve(config("run"))][-1] == 1.0
    groups = (tmp_path / "run/rollouts").rglob("*.jsonl")
    assert "s3" not in {json.loads(line)["id"] for path in groups for line in path.open()}


def test_a_resumed_run_leaves_the_same_out(config: Any, tmp_path: Path) -> None:
    run_job({"config": config("whole", num_steps=5)})
    cut = config("cut", num_steps=5, checkpoint__every=1)
    run_job({"config": cut, "stop_at": 2})
    run_job({"config": cut, "resume": "auto"})
    assert without_times(cut) == without_times(config("whole"))


def test_without_skip_the_sample_is_named(config: Any) -> None:
    with pytest.raises(DataError, match=r"'s3'.*images/3\.png cannot be read"):
        build_trainer(check(RunConfig, config("run", task__on_bad_row="error")), None).train()


def test_an_evaluation_leaves_it_out_too(config: Any, hidden_damage: Path, tmp_path: Path) -> None:
    data = {"train": {"path": str(hidden_damage)}, "held_out": {"path": str(hidden_damage)}}
    run_job(
        {
            "config": config(
                "run", num_steps=1, task__data=data, eval__splits=["held_out"], eval__batch_size=1
            )
        }
    )
    for label in ("before", "after"):
        rows = (tmp_path / "run/evaluations" / label / "held_out.jsonl").read_text().splitlines()
        assert [json.loads(row)["id"] for row in rows] == [f"s{i}" for i in range(12) if i != 3]
    assert [row["id"] for row in listed(tmp_path / "run")] == ["s3"]


def test_nothing_readable_is_an_error() -> None:
    sampler = PromptSampler(3, seed=0)
    sampler.left_out = {0, 2}
    assert sampler.take(4) == [1, 1, 1, 1]
    sampler.left_out = {0, 1, 2}
    with pytest.raises(DataError, match="none of the 3 samples"):
        sampler.take(1)


@pytest.mark.ranks
def test_two_ranks_leave_the_same_out_as_one(config: Any, ranks: Ranks, tmp_path: Path) -> None:
    data = config("x")["task"]["data"]["train"]
    splits = {"task__data": {"train": data, "held_out": data}, "eval__splits": ["held_out"]}
    one = config("one", num_steps=4, **splits)
    two = config("two", num_steps=4, dist__deepspeed=zero(3), **splits)
    run_job({"config": one})
    ranks.run([{"config": two}])
    assert_same_curve(one, two, 1e-5)
    assert listed(tmp_path / "one") == listed(tmp_path / "two")
    for name in ("one", "two"):
        answers = (tmp_path / name / "evaluations/after/held_out.jsonl").read_text()
        assert answers.count("\n") == 11
