"""Credit for answers in stages: plain GRPO with one stage, each stage its own with several."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_runs import curve, run_job
from helpers_voxels import CAPTIONS, save_voxel_model, voxel_run
from hypothesis import given
from hypothesis import strategies as st

from vlrl.algo import aggregate
from vlrl.algo.advantages import advantages
from vlrl.algo.objectives import OBJECTIVES, ClipRange
from vlrl.algo.stages import carry_back, to_actions
from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, RewardError
from vlrl.log.metrics import Meter
from vlrl.reward.combinators.stages import at_stage
from vlrl.reward.tree import build_reward
from vlrl.types import Finish, Rollout, Sample

finite = st.floats(-10, 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_voxel_model(tmp_path_factory.mktemp("voxel") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captions") / "rows.jsonl"
    rows = [{"id": f"c{i}", "caption": caption} for i, caption in enumerate(CAPTIONS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def grpo(rewards: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    return advantages(rewards, group, "group_zscore", eps=1e-4)


@given(st.lists(finite, min_size=8, max_size=8), st.lists(finite, min_size=8, max_size=8),
       st.floats(0, 3))  # fmt: skip
def test_what_carries_back(first: list[float], second: list[float], carry: float) -> None:
    """Lambda 0: stage one does not see stage two; above 0 it moves by lambda times stage two."""
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    rewards = torch.tensor([first, second]).T
    alone = carry_back(rewards, 0.0)
    assert torch.equal(alone, rewards)
    assert torch.equal(grpo(alone[:, 0], group), grpo(torch.tensor(first), group))
    carried = carry_back(rewards, carry)
    assert torch.equal(carried[:, 1], rewards[:, 1])
    centre = lambda x: advantages(x, group, "group_centre")  # noqa: E731
    moved = centre(carried[:, 0]) - centre(rewards[:, 0])
    assert torch.allclose(moved, carry * centre(rewards[:, 1]), atol=1e-3)


@given(st.lists(finite, min_size=8, max_size=8))
def test_one_stage_is_flat_grpo(values: list[float]) -> None:
    """To the bit: advantages, objectives, and the loss under every aggregate."""
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    rewards = torch.tensor(values)
    flat = grpo(rewards, group)
    staged = to_actions(grpo(carry_back(rewards[:, None], 1.0)[:, 0], group)[:, None], None)
    assert torch.equal(staged, flat)
    torch.manual_seed(0)
    logp, old = torch.randn(8, 5), torch.randn(8, 5)
    mask = torch.rand(8, 5) < 0.8
    zeros = torch.zeros(8, 5, dtype=torch.long)
    each = to_actions(torch.stack([flat, flat], 1), zeros)
    for objective in OBJECTIVES.values():
        one = objective(logp, old, flat, mask, ClipRange())
        two = objective(logp, old, each, mask, ClipRange())
        assert torch.equal(one.loss, two.loss)
        assert torch.equal(one.clipped, two.clipped)
    weight = torch.ones(8)
    totals = torch.tensor(aggregate.denominators(mask, "stage_token", zeros, 1))
    found = aggregate.share(one.loss, mask, "stage_token", weight, 1, totals.double(), zeros)
    whole = aggregate.numerator(one.loss, mask, "token", weight, 1) / mask.sum()
    assert torch.allclose(found, whole, rtol=1e-5, atol=1e-6)


def test_later_stages_add_up_and_what_does_not_apply_adds_nothing() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, math.nan, 4.0], [math.nan, 2.0, 4.0]])
    found = carry_back(rewards, 0.5)
    expected = [[1 + 0.5 * (2 + 0.5 * 4), 4.0, 4.0], [1.0, math.nan, 4.0], [math.nan, 4.0, 4.0]]
    assert np.array_equal(found.numpy(), np.array(expected, np.float32), equal_nan=True)


def test_every_action_gets_the_advantage_of_its_stage() -> None:
    advantage = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    stage = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]])
    expected = torch.tensor([[1.0, 1.0, -2.0, -2.0], [0.5, 3.0, 3.0, 0.5]])
    assert torch.equal(to_actions(advantage, stage), expected)
    with pytest.raises(ValueError, match="stage of every action"):
        to_actions(advantage, None)


def test_a_stage_token_average_is_the_sum_of_one_average_a_stage() -> None:
    torch.manual_seed(1)
    loss, mask = torch.randn(6, 9), torch.rand(6, 9) < 0.7
    stage = (torch.arange(9) >= 3).long().expand(6, 9)
    weight = torch.ones(6)
    totals = torch.tensor(aggregate.denominators(mask, "stage_token", stage, 2))
    assert totals.tolist() == [float(mask[:, :3].sum()), float(mask[:, 3:].sum())]
    whole = aggregate.share(loss, mask, "stage_token", weight, 1, totals.double(), stage)
    parts = [(loss * mask)[:, a:b].sum() / mask[:, a:b].sum() for a, b in ((0, 3), (3, 9))]
    assert torch.allclose(whole, sum(parts))
    # For any chunking.
    cut = [
        aggregate.share(loss[r], mask[r], "stage_token", weight[r], 1, totals.double(), stage[r])
        for r in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    assert torch.allclose(sum(cut), whole, atol=1e-6)


def trainer_of(config: dict):
    return build_trainer(check(RunConfig, config), None)


def test_the_trainer_credits_each_stage_its_own(folder: Path, data: Path, tmp_path: Path) -> None:
    batches = {}
    for carry in (0.0, 1.0):
        trainer = trainer_of(
            voxel_run(folder, data, tmp_path, f"carry{carry:g}", algo__stage_carry=carry)
        )
        experience = trainer.collect(Meter())
        batches[carry] = (experience, trainer.prepare(experience, Meter()))
    (experience, batch), (_, carried) = batches[0.0], batches[1.0]
    rewards, group = experience.rewards, experience.trajectory.group
    assert rewards.shape == (16, 2)
    stage = experience.trajectory.stage
    assert stage is not None
    for s in range(2):
        own = grpo(rewards[:, s], group)
        at = (stage == s) & experience.trajectory.mask
        assert torch.equal(batch.advantage[at], own[:, None].expand_as(stage)[at])
    first = (stage == 0) & experience.trajectory.mask
    summed = grpo(rewards.sum(1), group)[:, None].expand_as(stage)
    assert torch.allclose(carried.advantage[first], summed[first], atol=1e-5)
    assert batch.num_stages == 2


def test_the_ratio_is_exactly_one_on_the_first_update(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    for share in ("on", "off"):
        over = {"policy__share_prompt": share, "algo__kl_beta": 0.01}
        trainer = trainer_of(voxel_run(folder, data, tmp_path, share, **over))
        metrics = trainer.train_step()
        assert metrics["update/ratio"] == metrics["update/ratio_max"] == 1.0
        assert metrics["update/kl"] == 0.0
        assert metrics["update/sampling_gap"] < 1e-4


def test_the_update_is_the_same_for_any_chunks(folder: Path, data: Path, tmp_path: Path) -> None:
    found = []
    for budget in (50, 100_000):
        job = voxel_run(folder, data, tmp_path, f"b{budget}", dist__max_tokens_per_chunk=budget)
        trainer = trainer_of(job)
        found.append([trainer.train_step()["update/loss"] for _ in range(2)])
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)


def test_a_resumed_run_goes_on_to_the_bit(folder: Path, data: Path, tmp_path: Path) -> None:
    over = {"num_steps": 4, "algo__num_epochs": 2, "checkpoint__every": 2, "algo__kl_beta": 0.01}
    whole = voxel_run(folder, data, tmp_path, "whole", **over)
    run_job({"config": whole})
    cut = {**whole, "name": "cut"}
    run_job({"config": cut, "stop_at": 2})
    run_job({"config": cut, "resume": "auto"})
    assert len(curve(whole)) == 4
    for a, b in zip(curve(whole), curve(cut), strict=True):
        assert {k: v for k, v in a.items() if not k.startswith("time/")} == {
            k: v for k, v in b.items() if not k.startswith("time/")
        }


def test_groups_that_teach_in_no_stage_are_dropped(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    over = {"algo__drop_zero_variance": True, "algo__resample_rounds": 1}
    job = voxel_run(folder, data, tmp_path, "dull", **over)
    flat = {"use": "helpers_stages_flat:nothing"}
    sys.modules["helpers_stages_flat"] = type(sys)("helpers_stages_flat")
    sys.modules["helpers_stages_flat"].nothing = lambda rollout: 0.5
    job["reward"]["stages"]["coarse"] = flat
    trainer = trainer_of(job)
    batch = trainer.prepare(trainer.collect(Meter()), Meter())
    assert batch.kept.all(), "the second stage still teaches"
    assert not batch.advantage[
        (batch.trajectory.stage == 0) & batch.trajectory.mask
    ].isnan().any()  # fmt: skip
    job["name"] = "dull2"
    job["reward"]["stages"]["refined"] = flat
    trainer = trainer_of(job)
    batch = trainer.prepare(trainer.collect(Meter()), Meter())
    assert not batch.kept.any()


def test_wrong_use_says_what_is_wrong(folder: Path, data: Path, tmp_path: Path) -> None:
    one, two = {"use": "no_floaters"}, {"use": "symmetry"}
    with pytest.raises(ConfigError, match="must be the root"):
        build_reward({"sum": [{"stages": {"a": one, "b": two}}, one]})
    with pytest.raises(ConfigError, match="two or more"):
        build_reward({"stages": {"a": one}})
    with pytest.raises(ConfigError, match="`weight` counts only"):
        build_reward({"stages": {"a": {**one, "weight": 2.0}, "b": two}})
    with pytest.raises(ConfigError, match=r"reward\.stage\.index"):
        build_reward({"stage": {"index": -1, "of": one}})
    with pytest.raises(ConfigError, match="did you mean 'index'"):
        build_reward({"stage": {"indx": 0, "of": one}})


def test_a_reward_for_more_stages_than_the_policy_has_is_refused_at_once(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    job = voxel_run(folder, data, tmp_path, "one")
    job["policy"]["refine"] = None
    with pytest.raises(ConfigError, match=r"^reward: asks for 2 stages.*have 1;.*policy\.refine"):
        trainer_of(job)
    job["reward"] = {"sum": [{"stage": {"index": 1, "of": {"use": "no_floaters"}}}]}
    with pytest.raises(ConfigError, match=r"^reward: asks for 2 stages"):
        trainer_of(job)
    job["reward"] = {"stage": {"index": 0, "of": {"use": "no_floaters"}}}
    job["metrics"] = {"last": {"stage": {"index": 1, "of": {"use": "no_floaters"}}}}
    with pytest.raises(ConfigError, match=r"^metrics\.last: asks for 2 stages"):
        trainer_of(job)


def test_an_answer_with_too_few_stages_is_an_error_with_its_sample() -> None:
    answer = type("Answer", (), {"stages": (object(),)})()
    sample = Sample("cup", "text_to_3d", (), None)
    one = Rollout(sample, 0, 0, None, Finish.STOP, 1, 0, parsed=answer)
    with pytest.raises(RewardError, match=r"'cup'.*has 1 stages.*policy\.refine"):
        at_stage([one], 0, 2)


@pytest.mark.slow
def test_hi_grpo_learns(folder: Path, tmp_path: Path) -> None:
    """Both stages' own rewards rise."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"id": str(i), "caption": c}) + "\n" for i, c in enumerate(CAPTIONS))
    )
    over = {"num_steps": 25, "algo__group_size": 16, "optim__lr": 5e-3}
    job = voxel_run(folder, path, tmp_path, "learns", **over)
    run_job({"config": job})
    rows = curve(job)
    for name in ("reward/coarse", "reward/refined"):
        seen = torch.tensor([row[name] for row in rows])
        assert float(seen[-5:].mean() - seen[:3].mean()) > 2 * float(seen.diff().std()), name
