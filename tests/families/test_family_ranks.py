"""One RL step of every trained family on two ranks at ZeRO 2 and 3, with an adapter and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import run_job, small_run
from safetensors.torch import load_file

from families.tiny import make
from families.trained import TRAINED
from vlrl.families.known import FAMILIES
from vlrl.families.qwen_vl import QwenVL

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

LORA = {"policy__lora": {"rank": 2, "alpha": 4}, "policy__train_vision": False}


@pytest.mark.parametrize("kind", TRAINED)
def test_two_ranks_equal_one(kind: str, screens: Path, tmp_path: Path, ranks: Ranks) -> None:
    model = make(kind, TRAINED[kind], tmp_path / "model")

    def config(name: str, stage: int, **over: Any) -> dict[str, Any]:
        job = small_run(model, screens, tmp_path, name, dist__deepspeed=zero(stage), **over)
        # One step, and no bounds of a resizing that only Qwen has. Weights are compared after it: a
        # second step may sample another token where two logits differ by less than rounding.
        job |= {"num_steps": 1, "optim": {"lr": 0.05, "eps": 0.1}}
        job["checkpoint"] = {"at_end": False, "export": True}
        if not isinstance(FAMILIES[kind], QwenVL):
            job["policy"].pop("min_pixels")
            job["task"]["profile"] = "internvl"
        else:
            job["task"]["profile"] = "qwen3_vl"
        return job

    one, one_lora = config("one", 0), config("one_lora", 0, **LORA)
    for job in (one, one_lora):
        run_job({"config": job})
    double = {s: config(f"zero{s}", s) for s in (2, 3)}
    adapted = {s: config(f"zero{s}_lora", s, **LORA) for s in (2, 3)}
    ranks.run([{"config": job} for job in (*double.values(), *adapted.values())])
    for stage in (2, 3):
        for alone, both in ((one, double[stage]), (one_lora, adapted[stage])):
            assert_same_curve(alone, both, 1e-5)
            first, second = (weights(tmp_path / job["name"] / "model") for job in (alone, both))
            assert first.keys() == second.keys()
            for name, tensor in first.items():
                torch.testing.assert_close(tensor, second[name], atol=2e-6, rtol=0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)
