"""One RL step of every trained family on two ranks at ZeRO 2 and 3, with an adapter and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import run_job, small_run

from families.tiny import make
from families.trained import TRAINED

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

LORA = {"policy__lora": {"rank": 2, "alpha": 4}, "policy__train_vision": False}


@pytest.mark.parametrize("kind", TRAINED)
def test_two_ranks_equal_one(kind: str, screens: Path, tmp_path: Path, ranks: Ranks) -> None:
    model = make(kind, TRAINED[kind], tmp_path / "model")

    def config(name: str, stage: int, **over: Any) -> dict[str, Any]:
        job = small_run(model, screens, tmp_path, name, dist__deepspeed=zero(stage), **over)
        job["policy"].pop("min_pixels")
        job["task"]["profile"] = "internvl"  # numbers of 0 to 1000: no frame of resized pixels
        return job

    one, one_lora = config("one", 0), config("one_lora", 0, **LORA)
    for job in (one, one_lora):
        run_job({"config": job})
    double = {s: config(f"zero{s}", s) for s in (2, 3)}
    adapted = {s: config(f"zero{s}_lora", s, **LORA) for s in (2, 3)}
    ranks.run([{"config": job} for job in (*double.values(), *adapted.values())])
    for stage in (2, 3):
        assert_same_curve(one, double[stage], 1e-5)
        assert_same_curve(one_lora, adapted[stage], 1e-5)
