"""One RL step of every trained family on two ranks at ZeRO 2 and 3, with an adapter and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from families.tiny import make
from families.trained import TRAINED
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import curve, run_job, small_run

from vlrl.families.known import FAMILIES
from vlrl.families.qwen_vl import QwenVL

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.slow,
    # GLM's image processor copies arrays in a way that numpy will drop.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

LORA = {"policy__lora": {"rank": 2, "alpha": 4}, "policy__train_vision": False}


@pytest.mark.parametrize("kind", TRAINED)
def test_two_ranks_equal_one(kind: str, screens: Path, tmp_path: Path, ranks: Ranks) -> None:
    model = make(kind, TRAINED[kind], tmp_path / "model")

    def config(name: str, stage: int, **over: Any) -> dict[str, Any]:
        job = small_run(model, screens, tmp_path, name, dist__deepspeed=zero(stage), **over)
        # One step: a second one may sample another token where logits differ by rounding.
        job["num_steps"] = 1
        if not isinstance(FAMILIES[kind], QwenVL):
            job["policy"].pop("min_pixels")
            job["task"]["profile"] = "internvl"
        else:
            job["task"] |= {"profile": "qwen3_vl", "min_pixels": 3136, "max_pixels": 1003520}
        return job

    one, one_lora = config("one", 1), config("one_lora", 1, **LORA)
    for job in (one, one_lora):
        run_job({"config": job})
    double = {s: config(f"zero{s}", s) for s in (2, 3)}
    adapted = {s: config(f"zero{s}_lora", s, **LORA) for s in (2, 3)}
    ranks.run([{"config": job} for job in (*double.values(), *adapted.values())])
    for stage in (2, 3):
        for alone, both in ((one, double[stage]), (one_lora, adapted[stage])):
            assert_same_curve(alone, both, 1e-5)
            (first,), (second,) = curve(alone), curve(both)
            norm = pytest.approx(second["update/grad_norm"], rel=1e-5)
            assert first["update/grad_norm"] == norm
            assert norm.expected > 0
