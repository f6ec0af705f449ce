"""Two real ranks (gloo): the same numbers as one, at every ZeRO stage."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import curve, remembering_rewards, run_job, small_run, staged
from safetensors.torch import load_file

pytestmark = pytest.mark.ranks


def test_two_ranks_equal_one_at_every_stage(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    """One launch for all: stages 0 to 3, LoRA, a frozen tower, resume, a rank with less to do."""
    model = checkpoints["qwen2_5_vl"]

    def config(name: str, stage: int, **over: Any) -> dict[str, Any]:
        return small_run(model, screens, tmp_path, name, dist__deepspeed=zero(stage), **over)

    drop = {"algo__drop_zero_variance": True, "algo__resample_rounds": 1}
    small = {"dist__max_tokens_per_chunk": 70}
    lora = {"policy__lora": {"rank": 2, "alpha": 4}, "policy__train_vision": False}
    # A frozen tower's features are kept, and layers are run twice instead of kept.
    frozen = {"policy__train_vision": False, "dist__gradient_checkpointing": True}
    # Rank 0 has nothing to learn from, rank 1 two chunks or more: rank 0 pads.
    idle = {
        "algo__drop_zero_variance": True,
        "reward": {"use": "helpers_runs:letters_on_the_last_rank"},
        "optim__eps": 0.1,  # else Adam's first steps are +-lr, whatever the gradient
        "optim__lr": 0.05,
    }
    plain = {"policy__share_prompt": "off", "policy__train_vision": False}
    balance = {"algo__objective": "trajectory_balance", "algo__balance": {"prior": "reference"}}
    single = {
        "one": config("one", 0),
        "one_frozen": config("one_frozen", 0, **plain),
        "one_drop": config("one_drop", 0, **drop),
        "one_lora": config("one_lora", 0, **lora),
        "one_idle": config("one_idle", 0, **idle),
        "one_rewards": config("one_rewards", 0, **remembering_rewards()),
        "one_balance": config("one_balance", 0, **balance),
        "one_staged": config("one_staged", 0, **staged()),
        "one_ahead": config("one_ahead", 0, rollouts__ahead=1),
    }
    for job in single.values():
        run_job({"config": job})
    double = {f"zero{stage}": config(f"zero{stage}", stage) for stage in range(4)}
    double["zero3_chunks"] = config("zero3_chunks", 3, **small)
    double["zero2_lora"] = config("zero2_lora", 2, **lora)
    # Frozen weights that are gathered for a layer that is run twice (DeepSpeed#8148).
    again = {**lora, "dist__gradient_checkpointing": True}
    double["zero3_lora"] = config("zero3_lora", 3, **again)
    double["zero2_rewards"] = config("zero2_rewards", 2, **remembering_rewards())
    double["zero2_staged"] = config("zero2_staged", 2, **staged())
    double["zero3_ahead"] = config("zero3_ahead", 3, rollouts__ahead=1, checkpoint__every=1)
    double["zero2_balance"] = config("zero2_balance", 2, **balance)
    double["zero3_drop"] = config("zero3_drop", 3, **drop)
    double["zero2_idle"] = config("zero2_idle", 2, **idle, **small)
    double["zero3_idle"] = config("zero3_idle", 3, **idle, **small)
    for stage in (2, 3):
        double[f"zero{stage}_frozen"] = config(f"zero{stage}_frozen", stage, **frozen)
    cut = {s: config(f"cut{s}", s, checkpoint__every=1) for s in (2, 3)}
    jobs: list[dict[str, Any]] = [{"config": job} for job in double.values()]
    for job in cut.values():
        jobs += [{"config": job, "stop_at": 2}, {"config": job, "resume": "auto"}]
    poisoned = {s: config(f"poisoned{s}", s) for s in (2, 3)}
    jobs += [{"config": job, "poison": True} for job in poisoned.values()]
    counted = config("gathers", 3, algo__kl_beta=0.0)
    jobs.append({"config": counted, "gathers": True})
    shards = config("shards", 3)
    jobs.append({"config": shards, "shards": True})
    ranks.run(jobs)

    assert_loaded_and_exported_in_pieces(tmp_path / "shards", model)
    for name in ("zero0", "zero1", "zero2", "zero3", "zero3_chunks"):
        assert_same_curve(single["one"], double[name], 1e-5)
    for name in ("zero2_lora", "zero3_lora"):
        assert_same_curve(single["one_lora"], double[name], 1e-5)
    for name in ("zero2_idle", "zero3_idle"):
        assert_same_curve(single["one_idle"], double[name], 1e-5)
    kept = [row["filter/kept"] for row in curve(single["one_idle"])]
    assert max(kept) == 0.5, "the last rank's groups alone teach something"
    assert_same_curve(single["one_drop"], double["zero3_drop"], 1e-5)
    assert_same_curve(single["one_staged"], double["zero2_staged"], 1e-5)
    assert_same_curve(single["one_ahead"], double["zero3_ahead"], 1e-5)
    assert [row["rollout/steps_ahead"] for row in curve(double["zero3_ahead"])] == [0, 1, 1]
    for alone, shared in zip(
        curve(single["one_staged"]), curve(double["zero2_staged"]), strict=True
    ):
        of_stage = [name for name in alone if name.startswith(("curriculum/", "progress/"))]
        assert [alone[name] for name in of_stage] == [shared[name] for name in of_stage]
    assert [row["curriculum/stage"] for row in curve(single["one_staged"])] == [1, 2, 2, 3]
    for name in ("rewards", "balance"):
        one, two = single[f"one_{name}"], double[f"zero2_{name}"]
        assert_same_curve(one, two, 1e-5)
        learnt = [key for key in curve(one)[-1] if key.startswith("trainable_reward/")]
        assert len(learnt) >= 2
        # Rewards of the same texts to the last bit; log-probs are summed in other batches.
        gap = 0.0 if name == "rewards" else 1e-5
        for alone, shared in zip(curve(one), curve(two), strict=True):
            for key in learnt:
                assert shared[key] == pytest.approx(alone[key], rel=gap, abs=gap), key
    for stage in (2, 3):
        assert_same_curve(single["one_frozen"], double[f"zero{stage}_frozen"], 1e-5)
    for name in ("poisoned2", "poisoned3"):
        for rank in (0, 1):
            ending = (tmp_path / name / f"rank{rank}.txt").read_text(encoding="utf-8")
            assert "the optimizer step was not taken. Samples: s" in ending
            assert "weights kept: True" in ending
    for rank in (0, 1):
        steps = json.loads((tmp_path / "gathers" / f"gathers{rank}.json").read_text())
        # One pass in each step, whose order outlives the sampling before it.
        assert max(steps[0].values()) > 1
        assert all(set(step.values()) == {1} for step in steps[1:])
    # The last step once more on one rank: the states of two are joined, and what they had drawn.
    for saved, whole, over in (
        ("cut2", "zero2", {}),
        ("zero3_ahead", "zero3_ahead", {"rollouts__ahead": 1}),
    ):
        fewer = config(f"fewer_{whole}", int(whole[4]), **over)
        run_job({"config": fewer, "resume": str(tmp_path / saved / "checkpoints/step-000002")})
        (alone,) = curve(fewer)
        last = curve(double[whole])[-1]
        for name in ("update/loss", "update/grad_norm", "reward/mean", "rollout/steps_ahead"):
            assert alone[name] == pytest.approx(last[name], abs=1e-6), name
    for stage, job in cut.items():
        assert_same_curve(double[f"zero{stage}"], job, 0.0 if stage < 3 else 1e-6)


def assert_loaded_and_exported_in_pieces(folder: Path, model: Path) -> None:
    """No rank held a whole weight once it was loaded, nor the whole model to export it."""
    whole = load_file(model / "model.safetensors")
    for rank in (0, 1):
        held = json.loads((folder / f"held{rank}.json").read_text())
        assert held
        assert not any(held.values())
    pieces = json.loads((folder / "pieces0.json").read_text())
    sizes = [x.numel() * x.element_size() for x in whole.values()]
    assert len(pieces) > 5
    assert max(pieces) <= max(40_000, *sizes)
    exported = load_file(folder / "model" / "model.safetensors")
    assert exported.keys() == whole.keys()
    assert all(torch.equal(exported[name], whole[name]) for name in whole)
    assert not list(folder.glob(".weights-*"))


@pytest.mark.slow
def test_ranks_that_fail_show_why_and_the_next_job_gets_new_ones(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    job = small_run(checkpoints["qwen2_vl"], screens, tmp_path, "broken", num_steps=1)
    bad = {**job, "reward": {"use": "helpers_runs:broken"}}
    with pytest.raises(pytest.fail.Exception, match="the judge is down"):
        ranks.run([{"config": bad}])
    ranks.run([{"config": {**job, "name": "whole"}}])
    assert len(curve({**job, "name": "whole"})) == 1


@pytest.mark.slow
def test_a_stopped_rank_ends_the_run_with_its_name(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    """SIGSTOP in mid-step, as a process that hangs in a driver looks to the others."""
    watched = {"dist__hang_timeout_s": 5, "checkpoint__every": 1}
    job = small_run(checkpoints["qwen2_vl"], screens, tmp_path, "stopped", **watched)
    fault = {"rank": 1, "step": 2, "command": "kill -STOP $PID"}
    with pytest.raises(pytest.fail.Exception) as ended:
        ranks.run([{"config": job, "fault": fault}])
    assert "LostRankError: rank 1 (" in str(ended.value)
    assert "was lost in step 3: no sign of life for 5 s; step 2 is saved" in str(ended.value)
    at = float((tmp_path / "stopped/fault").read_text(encoding="utf-8"))
    # What the launcher does within a second; ending a stopped process takes it half a minute.
    found = re.search(r"\[([-0-9]+ [:0-9]+),[0-9]+\].*Killing subprocess", str(ended.value))
    assert found, ended.value
    after_s = datetime.fromisoformat(found[1]).timestamp() - at
    print(f"rank 1 was stopped: rank 0 had ended after {after_s:.0f} s")
    assert after_s < 15
