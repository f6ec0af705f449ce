"""Two ranks equal one for the other trainings too: objects in two stages, judges. One launch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import curve, run_job
from helpers_voxels import save_voxel_model, voxel_run
from test_judge_train import config_of, lines, parts  # noqa: F401
from test_text_to_3d import data  # noqa: F401

from vlrl.config.resolve import plain

HI_GRPO = {
    "algo__stage_carry": 1.0,
    "algo__kl_beta": 0.02,
    "algo__drop_zero_variance": True,
    "task__num_views": 2,
    "task__view_px": 16,
    "dist__max_tokens_per_chunk": 600,
}
JUDGES = {"yes_token": 3, "bradley_terry": 2}
"""The ZeRO stage of each."""


@pytest.mark.ranks
def test_objects_and_judges(
    data: Path,  # noqa: F811
    parts: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    ranks: Ranks,
) -> None:
    model = save_voxel_model(tmp_path / "voxel")

    def objects(name: str, stage: int) -> dict[str, Any]:
        over = {**HI_GRPO, "dist__deepspeed": zero(stage)}
        return voxel_run(model, data, tmp_path, name, **over)

    def judge(kind: str, name: str, stage: int) -> dict[str, Any]:
        over = {"kind": kind, "stages": stages, "dist__deepspeed": zero(stage)}
        return plain(config_of(parts, tmp_path, name, **over))

    pairs = [{"path": str(parts["root"] / "train.jsonl")}]
    stages = [{"name": "a", "num_steps": 3, "singles": 0.25, "data": pairs}]
    one = objects("objects", 0)
    run_job({"config": one})
    for kind in JUDGES:
        run_job({"judge": judge(kind, kind, 0)})
    double = {stage: objects(f"objects{stage}", stage) for stage in (0, 2, 3)}
    jobs = [{"config": job} for job in double.values()]
    jobs += [{"judge": judge(kind, f"{kind}2", stage)} for kind, stage in JUDGES.items()]
    ranks.run(jobs)

    assert any(row["update/kl"] > 0 for row in curve(one))
    for job in double.values():
        assert_same_curve(one, job, 1e-5)
    for kind in JUDGES:
        wanted, found = lines(tmp_path, kind), lines(tmp_path, f"{kind}2")
        assert len(wanted) == len(found) == 5  # measured before and after, too
        for a, b in zip(wanted, found, strict=True):
            assert set(a) <= set(b)  # ZeRO knows its gradient's norm
            for name in ("loss", "accuracy", "test/accuracy", "test/gap"):
                if name in a:
                    assert a[name] == pytest.approx(b[name], abs=2e-5), (kind, name, json.dumps(a))
