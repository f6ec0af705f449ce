"""Trajectory balance: answers in proportion to exp(beta x reward), by hand and by sampling."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_runs import curve, learnt_blend, remembering_rewards, run_job, small_run

from vlrl.algo.objectives import ClipRange
from vlrl.algo.trajectory_balance import moved, normaliser_estimate, of_answer, trajectory_balance
from vlrl.build import check_plugins
from vlrl.config.resolve import check
from vlrl.config.schema import AlgoConfig, BalanceConfig, RunConfig
from vlrl.errors import ConfigError
from vlrl.train.learners import Normalisers, learners
from vlrl.types import Finish, Rollout, Sample

WIDE = ClipRange(1.0, 100.0)


def test_a_loss_by_hand() -> None:
    """Two answers of 2 and 1 tokens: (-3 - -1)^2 and (-0.5 - 0.5)^2; their means per token."""
    logp = torch.tensor([[-1.0, -2.0], [-0.5, -9.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    target = torch.tensor([-1.0, 0.5])
    summed = trajectory_balance(logp, logp.detach(), target, mask, WIDE, per_token=False)
    assert summed.loss.tolist() == [[4.0, 4.0], [1.0, 1.0]]
    assert summed.ratio.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert not summed.clipped.any()
    mean = trajectory_balance(logp, logp.detach(), target, mask, WIDE, per_token=True)
    assert mean.loss[:, 0].tolist() == [0.25, 1.0]
    summed.loss[:, 0].sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == [[-4.0, -4.0], [-2.0, 0.0]]  # 2 (log pi - target) for each token


def test_answers_of_an_earlier_policy_are_weighed() -> None:
    logp, mask = torch.tensor([[-1.0, -1.0]]), torch.ones(1, 2, dtype=torch.bool)
    old = logp - math.log(2.0)
    target = torch.zeros(1)
    far = trajectory_balance(logp, old, target, mask, ClipRange(0.2, 0.5), per_token=False)
    assert far.loss[0, 0] == pytest.approx(1.5 * 4.0)
    assert far.ratio[0, 0] == pytest.approx(2.0)
    assert far.clipped.all()


def test_normalisers_by_hand() -> None:
    """A prompt's first value is its own estimate; then it moves by lr after use."""

    def rollout(name: str) -> Rollout:
        return Rollout(Sample(name, "t", (), None), 0, 0, "", Finish.STOP, 1, 0)

    class Two:
        """Two answers of one token each."""

        logp = torch.tensor([[-1.0], [-2.0]])
        mask = torch.ones(2, 1, dtype=torch.bool)
        reference = torch.tensor([[-1.5], [-1.5]])

    rollouts = [rollout("a"), rollout("a")]
    plain = Normalisers(BalanceConfig(beta=2.0, lr=0.5))
    trajectory: Any = Two()
    rewards = torch.tensor([[1.0], [0.5]])  # estimates 2 + 1 and 1 + 2: log Z = 3
    assert plain.targets(rollouts, rewards, trajectory).tolist() == [-1.0, -2.0]
    assert plain.update(rollouts) == {"log_z": 3.0, "prompts": 1.0}
    # Now 2 + 1 and 2 + 2: used is the old one, and then it moves half of the way to 3.5.
    assert plain.targets(rollouts, torch.ones(2, 1), trajectory).tolist() == [-1.0, -1.0]
    assert plain.update(rollouts)["log_z"] == 3.25
    with_nan = torch.tensor([[math.nan], [1.0]])
    assert plain.targets(rollouts, with_nan, trajectory).tolist() == [0.0, 2.0 - 3.25]
    resumed = Normalisers(BalanceConfig(beta=2.0, lr=0.5))
    resumed.load_state_dict(plain.state_dict())
    plain.pending.clear()
    assert resumed.targets(rollouts, rewards, trajectory).tolist() == (
        plain.targets(rollouts, rewards, trajectory).tolist()
    )
    prior = Normalisers(BalanceConfig(prior="reference"))
    # 1 - 1.5 + 1 and 0.5 - 1.5 + 2: log Z = 0.75
    assert prior.targets(rollouts, rewards, trajectory).tolist() == [-1.25, -1.75]


@pytest.mark.parametrize("with_prior", [False, True])
def test_a_policy_comes_to_draw_in_proportion(with_prior: bool) -> None:
    """A softmax over 6 answers: pi = prior exp(beta r) / Z, and log Z is found as well."""
    random = torch.Generator().manual_seed(0)
    rewards, beta = torch.tensor([0.0, 1.0, 1.0, 0.5, 1.0, -1.0]), 1.5
    prior = torch.rand(6, generator=random).log() if with_prior else torch.zeros(6)
    logits = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.2)
    log_z = 0.0
    for _ in range(800):
        logp = logits.log_softmax(0)
        picks = torch.multinomial(logp.exp().detach(), 32, replacement=True, generator=random)
        own = logp[picks][:, None]
        mask = torch.ones_like(own, dtype=torch.bool)
        target = beta * rewards[picks] + prior[picks] - log_z
        objective = trajectory_balance(own, own.detach(), target, mask, WIDE, per_token=False)
        optimizer.zero_grad()
        objective.loss.mean().backward()
        optimizer.step()
        total = of_answer(own.detach(), mask, False)
        log_z = moved(log_z, normaliser_estimate(rewards[picks], total, prior[picks], beta), 0.3)
    wanted = (prior + beta * rewards).softmax(0)
    assert float((logits.softmax(0) - wanted).abs().sum()) / 2 < 0.01  # total variation
    assert log_z == pytest.approx(float((prior + beta * rewards).logsumexp(0)), abs=0.02)
    assert all(logits.softmax(0)[i] > 0.05 for i in (1, 2, 4))  # all of the good ones are kept


@pytest.mark.parametrize(
    ("algo", "message"),
    [
        ({"aggregate": "token"}, "algo.aggregate: must be sequence"),
        ({"advantage": "group_centre"}, "algo.advantage: no effect under algo.objective: traj"),
        ({"objective": "clip", "balance": {"beta": 2.0}}, "algo.balance: no effect under"),
        ({"balance": {"lr": 2.0}}, "algo.balance.lr"),
        ({"rollout_correction": {}}, "algo.rollout_correction: no effect under algo.objective: t"),
    ],
)
def test_what_does_not_fit_is_refused(algo: dict[str, Any], message: str) -> None:
    config = {"task": {}, "policy": {}, "reward": {}, "name": "run"}
    with pytest.raises(ConfigError, match=message):
        check(RunConfig, {**config, "algo": {"objective": "trajectory_balance", **algo}})


def test_images_and_stages_are_refused() -> None:
    from vlrl.config.loader import compose
    from vlrl.config.shipped import shipped_files

    config = compose([shipped_files("configs")["image_generation/tiny"]])
    config["algo"] = {"objective": "trajectory_balance"}
    with pytest.raises(ConfigError, match=r"algo.objective: trajectory_balance balances the prob"):
        check_plugins(check(RunConfig, config))
    objects = compose([shipped_files("configs")["text_to_3d/tiny"]])
    node = {"use": "voxel_iou"}
    objects["reward"] = {"stages": {"coarse": node, "refined": node}}
    objects["algo"] = {"objective": "trajectory_balance"}
    with pytest.raises(ConfigError, match="has one loss per answer, and `reward` is one of"):
        check_plugins(check(RunConfig, objects))


def test_only_this_objective_has_normalisers() -> None:
    from vlrl.reward.tree import build_reward

    node = build_reward({"use": "box_iou"})
    assert learners([node], AlgoConfig()) == ([], None)
    found, normalisers = learners([node], AlgoConfig(objective="trajectory_balance"))
    assert found == [normalisers]


def test_references_of_the_policy_that_training_starts_from(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    """Rewards of two sampled answers to every prompt; not drawn again by a resumed run."""
    from vlrl.build import build_trainer
    from vlrl.reward.combinators.shape import RememberingShape

    own = {"use": "helpers_runs:letters"}
    compared = {"from": "policy", "num": 2}
    node = {"shape": {"kind": "par", "of": own, "slope": 4.0, "references": compared}}
    over = {"reward": node, "checkpoint__every": 1, "eval__batch_size": 5, "num_steps": 1}
    config = small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, "run", **over)
    trainer = build_trainer(check(RunConfig, config), None)
    reward = trainer.curriculum.reward
    assert isinstance(reward, RememberingShape)
    drawn = dict(reward.of_policy)
    assert set(drawn) == {sample.id for sample in trainer.drawing.samples}
    assert all(len(values) == 2 for values in drawn.values())
    assert len({value for values in drawn.values() for value in values}) > 3
    trainer.train()
    resumed = build_trainer(check(RunConfig, {**config, "num_steps": 2}), "auto")
    assert isinstance(resumed.curriculum.reward, RememberingShape)
    assert resumed.curriculum.reward.of_policy == drawn
    metrics = resumed.train_step()
    assert 0 < metrics["reward/mean"] < 1


BALANCE = {
    "algo__objective": "trajectory_balance",
    "algo__balance": {"prior": "reference", "per_token": True},
    "algo__kl_beta": 0.0,
    "algo__num_minibatches": 2,
}


@pytest.mark.parametrize(
    "over",
    [remembering_rewards(), {**BALANCE, "reward": learnt_blend()}],
    ids=["rewards", "balance"],
)
def test_what_is_learnt_beside_the_policy_is_resumed_to_the_last_bit(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path, over: dict[str, Any]
) -> None:
    """Running statistics, a head, a blend, two memories of answers; normalisers of prompts."""

    def config(name: str, **more: Any) -> dict[str, Any]:
        model = checkpoints["qwen2_5_vl"]
        return small_run(model, screens, tmp_path, name, num_steps=4, **over, **more)

    whole, cut = config("whole"), config("cut", checkpoint__every=2)
    run_job({"config": whole})
    run_job({"config": cut, "stop_at": 2})
    run_job({"config": cut, "resume": "auto"})
    timed = ("time/", "scoring/", "memory/", "progress/")
    first, again = curve(whole), curve(cut)
    assert len(first) == len(again) == 4
    for a, b in zip(first, again, strict=True):
        names = [name for name in a if not name.startswith(timed)]
        assert {name: a[name] for name in names} == {name: b[name] for name in names}
    assert any(name.startswith("trainable_reward/") for name in first[-1])
    assert any(row["update/advantage_abs"] > 0 for row in first)
