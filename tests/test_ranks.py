"""Two real ranks (gloo): the same numbers as one, at every ZeRO stage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import curve, learnt_blend, remembering_rewards, run_job, small_run, staged
from safetensors.torch import load_file

pytestmark = pytest.mark.ranks


Job = dict[str, Any]
Config = Callable[..., Job]
"""(name, ZeRO stage, **changes) -> a run's config."""

DROP = {"algo__drop_zero_variance": True, "algo__resample_rounds": 1}
SMALL = {"dist__max_tokens_per_chunk": 70}
LORA = {"policy__lora": {"rank": 2, "alpha": 4}, "policy__train_vision": False}
# A frozen tower's features are kept, and layers are run twice instead of kept.
FROZEN = {"policy__train_vision": False, "dist__gradient_checkpointing": True}
# Rank 0 has nothing to learn from, rank 1 two chunks or more: rank 0 pads.
IDLE = {
    "algo__drop_zero_variance": True,
    "reward": {"use": "helpers_runs:letters_on_the_last_rank"},
    "optim__eps": 0.1,  # else Adam's first steps are +-lr, whatever the gradient
    "optim__lr": 0.05,
}
# An evaluation that fails on one rank, after a step that no checkpoint was due for.
UNEVALUATED = {
    "metrics": {"far": {"use": "helpers_runs:fails_on_the_last_rank"}},
    "eval__before": False,
    "eval__every": 2,
    "eval__splits": ["train"],
    "eval__limit": 4,
}
AHEAD = {"rollouts__ahead": 1, "algo__rollout_correction": {}}
BALANCE = {
    "algo__objective": "trajectory_balance",
    "algo__balance": {"prior": "reference"},
    "reward": learnt_blend(),
}


def test_two_ranks_equal_one_at_every_stage(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    """One launch for all: stages 0 to 3, LoRA, a frozen tower, resume, a rank with less to do."""
    model = checkpoints["qwen2_5_vl"]

    def config(name: str, stage: int, **over: Any) -> Job:
        return small_run(model, screens, tmp_path, name, dist__deepspeed=zero(stage), **over)

    single = on_one_rank(config)
    for job in single.values():
        run_job({"config": job})
    double = on_two_ranks(config)
    cut = {s: config(f"cut{s}", s, checkpoint__every=1) for s in (2, 3)}
    jobs: list[Job] = [{"config": job} for job in double.values()]
    for job in cut.values():
        jobs += [{"config": job, "stop_at": 2}, {"config": job, "resume": "auto"}]
    jobs += [{"config": config(f"poisoned{s}", s), "poison": True} for s in (2, 3)]
    jobs.append({"config": config("evaluated", 2, **UNEVALUATED), "told": True})
    jobs.append({"config": config("gathers", 3, algo__kl_beta=0.0), "gathers": True})
    jobs.append({"config": config("shards", 3), "shards": True})
    ranks.run(jobs)

    assert_loaded_and_exported_in_pieces(tmp_path / "shards", model)
    for name, job in double.items():
        assert_same_curve(single[ALONE.get(name, "one")], job, 1e-5)
    kept = [row["filter/kept"] for row in curve(single["one_idle"])]
    assert max(kept) == 0.5, "the last rank's groups alone teach something"
    assert [row["rollout/steps_ahead"] for row in curve(double["zero3_ahead"])] == [0, 1, 1]
    assert_same_stages(single["one_staged"], double["zero2_staged"])
    # Rewards of the same texts to the last bit; log-probs are summed in other batches.
    assert_same_learnt(single["one_rewards"], double["zero2_rewards"], 0.0)
    assert_same_learnt(single["one_balance"], double["zero2_balance"], 1e-5)
    assert_nothing_poisoned(tmp_path)
    for rank in (0, 1):
        told = (tmp_path / "evaluated" / f"rank{rank}.txt").read_text(encoding="utf-8")
        assert "nobody answers" in told
        assert "Stopped after step 2, which is saved; go on with --resume" in told
    assert_gathered_once(tmp_path / "gathers")
    # The last step once more on one rank: the states of two are joined, and what they had drawn.
    for saved, whole, over in (
        ("cut2", "zero2", {}),
        ("zero3_ahead", "zero3_ahead", AHEAD),
    ):
        fewer = config(f"fewer_{whole}", int(whole[4]), **over)
        run_job({"config": fewer, "resume": str(tmp_path / saved / "checkpoints/step-000002")})
        (alone,) = curve(fewer)
        last = curve(double[whole])[-1]
        for name in ("update/loss", "update/grad_norm", "reward/mean", "rollout/steps_ahead"):
            assert alone[name] == pytest.approx(last[name], abs=1e-6), name
    for stage, job in cut.items():
        assert_same_curve(double[f"zero{stage}"], job, 0.0 if stage < 3 else 1e-6)


def on_one_rank(config: Config) -> dict[str, Job]:
    """What two ranks are compared with."""
    plain = {"policy__share_prompt": "off", "policy__train_vision": False}
    return {
        "one": config("one", 0),
        "one_frozen": config("one_frozen", 0, **plain),
        "one_drop": config("one_drop", 0, **DROP),
        "one_lora": config("one_lora", 0, **LORA),
        "one_idle": config("one_idle", 0, **IDLE),
        "one_rewards": config("one_rewards", 0, **remembering_rewards()),
        "one_balance": config("one_balance", 0, **BALANCE),
        "one_staged": config("one_staged", 0, **staged()),
        "one_ahead": config("one_ahead", 0, **AHEAD),
    }


def on_two_ranks(config: Config) -> dict[str, Job]:
    """Runs by name, `zero<stage>` and what is not plain."""
    jobs = {f"zero{stage}": config(f"zero{stage}", stage) for stage in range(4)}
    jobs["zero3_chunks"] = config("zero3_chunks", 3, **SMALL)
    jobs["zero2_lora"] = config("zero2_lora", 2, **LORA)
    # Frozen weights that are gathered for a layer that is run twice (DeepSpeed#8148).
    again = {**LORA, "dist__gradient_checkpointing": True}
    jobs["zero3_lora"] = config("zero3_lora", 3, **again)
    jobs["zero2_rewards"] = config("zero2_rewards", 2, **remembering_rewards())
    jobs["zero2_staged"] = config("zero2_staged", 2, **staged())
    jobs["zero3_ahead"] = config("zero3_ahead", 3, **AHEAD, checkpoint__every=1)
    jobs["zero2_balance"] = config("zero2_balance", 2, **BALANCE)
    jobs["zero3_drop"] = config("zero3_drop", 3, **DROP)
    jobs["zero2_idle"] = config("zero2_idle", 2, **IDLE, **SMALL)
    jobs["zero3_idle"] = config("zero3_idle", 3, **IDLE, **SMALL)
    for stage in (2, 3):
        jobs[f"zero{stage}_frozen"] = config(f"zero{stage}_frozen", stage, **FROZEN)
    return jobs


ALONE = {
    f"zero{stage}_{name}": f"one_{name}"
    for stage in (2, 3)
    for name in ("lora", "idle", "frozen", "drop", "staged", "ahead", "rewards", "balance")
}
"""A run of two ranks -> the run of one rank that it must equal, where that is not the plain one."""


def assert_same_stages(one: Job, two: Job) -> None:
    """The same stages of the curriculum at the same steps."""
    for alone, shared in zip(curve(one), curve(two), strict=True):
        of_stage = [name for name in alone if name.startswith(("curriculum/", "progress/"))]
        assert [alone[name] for name in of_stage] == [shared[name] for name in of_stage]
    assert [row["curriculum/stage"] for row in curve(one)] == [1, 2, 2, 3]


def assert_same_learnt(one: Job, two: Job, gap: float) -> None:
    """What rewards or the objective learnt, up to a gap."""
    learnt = [key for key in curve(one)[-1] if key.startswith("trainable_reward/")]
    assert len(learnt) >= 2
    for alone, shared in zip(curve(one), curve(two), strict=True):
        for key in learnt:
            assert shared[key] == pytest.approx(alone[key], rel=gap, abs=gap), key


def assert_nothing_poisoned(folder: Path) -> None:
    """A gradient that is not finite ended both runs before the weights changed."""
    for name in ("poisoned2", "poisoned3"):
        for rank in (0, 1):
            ending = (folder / name / f"rank{rank}.txt").read_text(encoding="utf-8")
            assert "the optimizer step was not taken. Samples: s" in ending
            assert "weights kept: True" in ending


def assert_gathered_once(folder: Path) -> None:
    """One pass in each step, whose order outlives the sampling before it."""
    for rank in (0, 1):
        steps = json.loads((folder / f"gathers{rank}.json").read_text())
        assert max(steps[0].values()) > 1
        assert all(set(step.values()) == {1} for step in steps[1:])


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
