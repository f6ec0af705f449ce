"""Whole runs with a flow policy: it learns, it resumes, several ranks are one."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_flow import flow_run, save_sd3, write_captions
from helpers_images import save_dinov2
from helpers_ranks import Ranks, zero
from helpers_runs import curve, run_job
from hypothesis import given
from hypothesis import strategies as st

from vlrl.algo.nft import nft_loss, optimality
from vlrl.build import build_trainer, check_plugins, read_parts
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, RewardError
from vlrl.log.metrics import Meter


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("flow_runs")
    return {
        "model": save_sd3(root / "sd3"),
        "data": write_captions(root / "data"),
        "dino": save_dinov2(root / "dino"),
    }


def config(parts: dict[str, Path], out: Path, name: str, **over: Any) -> dict[str, Any]:
    return flow_run(parts["model"], parts["data"], out, name, **over)


def learnt(parts: dict[str, Path], **options: Any) -> dict[str, Any]:
    """An adversarial reward that makes the same choices on one rank and on two."""
    return {
        "use": "adversarial_dino",
        "model": str(parts["dino"]),
        "device": "cpu",
        "width": 8,
        "lr": 1e-2,
        "num_patches": 0,
        **options,
    }


LEARNING = {
    "clip": {"optim__lr": 3e-3, "algo__group_size": 8},
    "nft": {
        "optim__lr": 1e-3,
        "algo__group_size": 16,
        "algo__objective": "nft",
        "algo__nft": {"num_levels": 4, "advantage_scale": 1.5},
    },
}


@pytest.mark.parametrize("objective", LEARNING)
def test_a_flow_policy_learns(parts: dict[str, Path], tmp_path: Path, objective: str) -> None:
    """The mean of the last steps is far above the first ones, beyond their noise."""
    over = {"policy__guidance": "off", "policy__latent_dtype": "fp32", **LEARNING[objective]}
    job = config(parts, tmp_path, objective, num_steps=12, **over)
    run_job({"config": job})
    seen = torch.tensor([row["reward/mean"] for row in curve(job)])
    assert float(seen[-3:].mean() - seen[0]) > 3 * float(seen.diff().std())


logits = st.floats(-20, 20)


@given(advantage=logits, scale=st.floats(0.5, 10))
def test_optimality_is_a_probability(advantage: float, scale: float) -> None:
    r = optimality(torch.tensor([advantage, -advantage, 0.0]), scale)
    assert float(r.min()) >= 0
    assert float(r.max()) <= 1
    assert float(r[0] + r[1]) == pytest.approx(1, abs=1e-5)
    assert float(r[2]) == 0.5


@given(r=st.floats(0, 1), beta=st.floats(0.1, 2), seed=st.integers(0, 50))
def test_nft_pulls_good_images_and_pushes_bad_ones(r: float, beta: float, seed: int) -> None:
    """At v = v_old the gradient is (2 r - 1) times that of plain regression, for every beta."""
    torch.manual_seed(seed)
    clean, noise = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    sigma = torch.tensor([0.3, 0.8])
    wide = sigma.view(-1, 1, 1, 1)
    x = (1 - wide) * clean + wide * noise
    v = torch.randn_like(x).requires_grad_(True)
    rs = torch.full((2,), r)
    loss = nft_loss(v, v.detach(), x, clean, sigma, rs, beta=beta, scale=5.0)
    (gradient,) = torch.autograd.grad(loss.sum(), v)
    wrong = x - wide * v - clean
    size = wrong.detach().abs().flatten(1).mean(1)
    (plain,) = torch.autograd.grad((wrong.square().flatten(1).mean(1) / size).sum(), v)
    torch.testing.assert_close(gradient, (2 * r - 1) * 5.0 * plain, rtol=1e-4, atol=1e-5)


def test_objectives_that_a_policy_cannot_serve_are_refused(
    parts: dict[str, Path], checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    from helpers_runs import small_run

    job = small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, "x", algo__objective="nft")
    with pytest.raises(ConfigError, match="writes tokens"):
        build_trainer(check(RunConfig, job), None)
    entropy = config(parts, tmp_path, "y", algo__entropy_coef=0.1)
    with pytest.raises(ConfigError, match="entropy"):
        run_job({"config": entropy})


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"policy": {"window": {"num_steps": 2}}}, "policy.window: no effect"),
        ({"policy": {"same_noise": True}}, "policy.same_noise: no effect"),
        ({"policy": {"dynamics": "cps", "ratio": "guard"}}, "policy.dynamics, policy.ratio"),
        ({"algo": {"clip": {"low": 1e-3, "high": 1e-3}}}, "algo.clip: no effect"),
        ({"algo": {"old_logp": "rollout"}}, "algo.old_logp: no effect"),
    ],
)
def test_options_that_an_objective_would_ignore_are_refused(
    parts: dict[str, Path], tmp_path: Path, over: dict[str, Any], said: str
) -> None:
    job = config(parts, tmp_path, "ignored", algo__objective="nft")
    for section, values in over.items():
        job[section] |= values
    with pytest.raises(ConfigError, match=said):
        check_plugins(check(RunConfig, job))


def test_groups_drawn_again_have_the_window_of_the_first(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    """Else their trajectories could not be joined; three steps see more than one window."""
    job = config(
        parts,
        tmp_path,
        "again",
        num_steps=6,
        reward={"use": "helpers_flow:lean_sometimes"},
        policy__window={"num_steps": 1, "placement": "random"},
        algo__drop_zero_variance=True,
        algo__resample_rounds=2,
    )
    trainer = build_trainer(check(RunConfig, job), None)
    windows = set()
    for _ in range(6):
        experience = trainer.collect(meter := Meter())
        metrics = meter.reduce(trainer.world)
        windows.add(experience.trajectory.steps)
        trainer.policy.version += 1
        assert metrics["filter/resampled_groups"] > 0
    assert len(windows) > 1


def test_old_log_probs_may_be_those_of_sampling(parts: dict[str, Path], tmp_path: Path) -> None:
    """The same losses without the pass that recomputes them."""
    found, calls = {}, {}
    for choice in ("recompute", "rollout"):
        job = config(
            parts,
            tmp_path,
            choice,
            algo__num_minibatches=2,
            algo__old_logp=choice,
            policy__latent_dtype="fp32",
        )
        trainer = build_trainer(check(RunConfig, job), None)
        evaluate, seen = trainer.policy.evaluate, []
        trainer.policy.evaluate = lambda *a, _e=evaluate, _s=seen, **k: (_s.append(1), _e(*a, **k))[
            1
        ]
        metrics = [trainer.train_step() for _ in range(2)]
        found[choice], calls[choice] = metrics, len(seen)
    assert calls["recompute"] == 2 * calls["rollout"]
    for ours, plain in zip(found["rollout"], found["recompute"], strict=True):
        assert ours["update/loss"] == pytest.approx(plain["update/loss"], rel=1e-4, abs=1e-6)
        assert ours["update/ratio"] == pytest.approx(plain["update/ratio"], abs=1e-5)


@pytest.mark.parametrize("ratio", ["plain", "guard"])
def test_the_gap_to_sampling_is_nought_before_the_first_step(
    parts: dict[str, Path], tmp_path: Path, ratio: str
) -> None:
    job = config(parts, tmp_path, ratio, policy__ratio=ratio, policy__latent_dtype="fp32")
    metrics = build_trainer(check(RunConfig, job), None).train_step()
    assert metrics["update/sampling_gap"] < 1e-5


def test_a_model_that_is_reward_and_metric_is_loaded_once(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    similar = {"use": "dino_similarity", "model": str(parts["dino"])}
    job = config(parts, tmp_path, "once", reward={"sum": [learnt(parts), {**similar, "weight": 2}]})
    job["metrics"] = {
        "same": similar,
        "other": {**similar, "size_px": 28},
        "lean": {"use": "helpers_flow:lean"},
        "sometimes": {"use": "helpers_flow:lean_sometimes"},
        "learnt": learnt(parts),
    }
    checked = check(RunConfig, job)
    parts = read_parts(checked)
    reward, metrics = parts.reward, parts.metrics
    head, part = reward.children
    assert metrics["same"] is part
    assert metrics["other"] is not part
    assert metrics["learnt"] is not head  # what learns is never shared
    assert len({id(metric) for metric in metrics.values()}) == 5


def test_a_reward_that_never_applies_ends_the_run(
    parts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No caption here asks for written words, so nothing would ever be learnt."""
    reward = {"use": "ocr_match", "recognise_only": True}
    job = config(parts, tmp_path, "idle", num_steps=20, reward=reward)
    trainer = build_trainer(check(RunConfig, job), None)
    with pytest.raises(RewardError, match=r"none of the answers .* 5 steps.*c\d+.*written"):
        trainer.train()
    assert trainer.step == 5
    assert "applied to no answer of step 1" in caplog.text


def test_a_reward_that_rests_on_purpose_does_not_end_the_run(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    """Nine of ten rounds, as published."""
    job = config(parts, tmp_path, "rests", num_steps=8, reward=learnt(parts, policy_every=10))
    trainer = build_trainer(check(RunConfig, job), None)
    trainer.train()
    assert {row["reward/not_applicable"] for row in curve(job)} == {1.0}


@pytest.mark.parametrize("objective", ["clip", "nft"])
def test_a_resumed_run_goes_on_to_the_bit(
    parts: dict[str, Path], tmp_path: Path, objective: str
) -> None:
    """Weights, optimizer, running average, discriminator with its replay, window, noise."""
    over = {
        "reward": learnt(parts, replay_size=20, num_patches=3),
        "num_steps": 4,
        "algo__objective": objective,
        "algo__num_epochs": 2,
        "algo__kl_beta": 0.01,
        "policy__window": {"num_steps": 1, "placement": "random"},
        "policy__lora": {"rank": 4, "alpha": 8},
        "optim__ema_decay": 0.9,
        "checkpoint__every": 2,
        "checkpoint__keep_last": 5,
    }
    whole = config(parts, tmp_path, "whole", **over)
    run_job({"config": whole})
    cut = copy.deepcopy(whole)
    cut["name"] = "cut"
    run_job({"config": cut, "stop_at": 2})
    run_job({"config": cut, "resume": "auto"})
    for a, b in zip(curve(whole), curve(cut), strict=True):
        for name in a:
            if not name.startswith("time/"):
                assert a[name] == b[name], (a["step"], name)
    last = "checkpoints/step-000004/ema_rank0.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "cut" / last).read_bytes()


def test_a_checkpoint_without_an_average_says_so(parts: dict[str, Path], tmp_path: Path) -> None:
    job = config(parts, tmp_path, "a", num_steps=1, checkpoint__at_end=True)
    run_job({"config": job})
    job["num_steps"], job["optim"]["ema_decay"] = 2, 0.9
    with pytest.raises(Exception, match="running average"):
        run_job({"config": job, "resume": "auto"})


def test_evaluation_is_of_the_average_and_export_loads(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    """The images of `after` are those of the exported pipeline."""
    from diffusers import DiffusionPipeline

    from vlrl.cli.train import export

    job = config(
        parts,
        tmp_path,
        "e",
        eval={"splits": ["train"], "limit": 4},
        metrics={"lean": {"use": "helpers_flow:lean"}},
        optim__ema_decay=0.5,
        optim__lr=1e-2,
        checkpoint__export=True,
    )
    trainer = build_trainer(check(RunConfig, job), None)
    trainer.train()
    export(trainer)
    trainer.engine.engine.destroy()
    folder = tmp_path / "e"
    rows = (folder / "evaluations/after/train.jsonl").read_text(encoding="utf-8").splitlines()
    after = {row["id"]: row["metrics"]["lean"] for row in map(json.loads, rows)}
    now, _ = trainer.policy.sample(trainer.drawing.samples[:1], 1, 0, greedy=True)
    assert shown(now[0].output) != pytest.approx(after["c0"], abs=1e-6)
    job["policy"]["model"] = str(folder / "model")
    assert DiffusionPipeline.from_pretrained(folder / "model").transformer is not None
    job.update(name="again", num_steps=1)
    again = build_trainer(check(RunConfig, job), None)
    made, _ = again.policy.sample(again.drawing.samples[:1], 1, 0, greedy=True)
    assert shown(made[0].output) == pytest.approx(after["c0"], abs=1e-4)


def shown(image: np.ndarray) -> float:
    """As helpers_flow.lean."""
    return float(image[:, :16].mean() - image[:, 16:].mean()) / 255


@pytest.mark.ranks
def test_two_ranks_equal_one(parts: dict[str, Path], tmp_path: Path, ranks: Ranks) -> None:
    """Losses, KL, the discriminator: the same at stages 0, 2 and 3; its weights alike on both."""
    over = {
        "reward": learnt(parts),
        "algo__kl_beta": 0.1,
        "policy__window": {"num_steps": 2, "placement": "random"},
        "optim__ema_decay": 0.9,
        "metrics": {"lean": {"use": "helpers_flow:lean"}},
        "eval": {"splits": ["train"], "limit": 4, "before": False},
        "checkpoint__at_end": True,
        "dist__max_tokens_per_chunk": 900,
        "policy__latent_dtype": "fp32",  # no rounding that may go either way
    }
    lora = {**over, "policy__lora": {"rank": 4, "alpha": 8}, "algo__advantage": "global_std"}
    nft = {**over, "algo__objective": "nft"}
    kinds = {"full": over, "lora": lora, "nft": nft}
    single = {kind: config(parts, tmp_path, f"one_{kind}", **o) for kind, o in kinds.items()}
    for job in single.values():
        run_job({"config": job})
    double = {
        (kind, stage): config(
            parts, tmp_path, f"{kind}{stage}", dist__deepspeed=zero(stage), **kinds[kind]
        )
        for kind, stage in [("full", 0), ("full", 2), ("full", 3), ("lora", 2), ("nft", 3)]
    }
    ranks.run([{"config": job} for job in double.values()])
    names = ("update/loss", "update/kl", "reward/mean")
    heads = ("loss", "accuracy", "gap", "generated")
    wanted = (*names, *(f"trainable_reward/adversarial_dino_{name}" for name in heads))
    for (kind, stage), job in double.items():
        steps = zip((1e-5, 1e-4, 5e-3), curve(single[kind]), curve(job), strict=True)
        for tolerance, a, b in steps:  # Adam amplifies a difference tenfold at each step
            for name in wanted:
                wish = pytest.approx(b[name], rel=tolerance, abs=1e-5)
                assert a[name] == wish, (kind, stage, name)
        # Drawn with the running average, from the first image on.
        for a, b in zip(evaluated(single[kind]), evaluated(job), strict=True):
            assert a == pytest.approx(b, abs=2e-4), (kind, stage)
        last = tmp_path / job["name"] / "checkpoints/step-000003"
        states = [
            torch.load(last / f"rewards_rank{rank}.pt", weights_only=True)[0]["head"]
            for rank in (0, 1)
        ]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        shutil.rmtree(tmp_path / job["name"] / "checkpoints")


def evaluated(job: dict[str, Any]) -> list[float]:
    """The reward of every sample's image after training."""
    path = Path(job["out"]) / job["name"] / "evaluations/after/train.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row["metrics"]["lean"] for row in sorted(rows, key=lambda row: row["id"])]


def test_the_command_measures_a_model(
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """scripts/evaluate_images.py: images of every sample, metrics, distances to two sets."""
    import evaluate_images
    import yaml

    job = config(parts, tmp_path, "measured", reward={"use": "jpeg_compressibility"})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(job), encoding="utf-8")
    judge = Path(__file__).resolve().parent.parent / "assets/models/judge_concept"
    split = next(iter(job["task"]["data"]))

    def run(*more: str) -> int:
        sys.argv = ["evaluate_images.py", "--config", str(file), "--split", split, "--limit", "4"]
        sys.argv += ["--features", str(judge), "--out", str(tmp_path / "figures.json"), *more]
        return evaluate_images.main()

    assert run("--images", str(tmp_path / "drawn")) == 0
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert len(drawn) == 4
    assert run("--against", f"own={tmp_path / 'drawn'}", "--batch-size", "3") == 0
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert found["num_samples"] == 4
    lines = (tmp_path / "figures.jsonl").read_text(encoding="utf-8").splitlines()
    each = [json.loads(line) for line in lines]
    assert [f"{row['id']}.png" for row in each] == [path.name for path in drawn]
    assert found["overall"]
    for name, figure in found["overall"].items():
        assert sum(row["metrics"][name] for row in each) / 4 == pytest.approx(figure["mean"])
    sets = found["sets"][judge.name]
    assert sets["own"]["nearest"] == 1.0
    assert sets["own"]["fid"] == pytest.approx(0, abs=1e-3)
    assert sets["references"]["fid"] > sets["own"]["fid"]
    monkeypatch.setattr(evaluate_images, "generate", None)  # mistakes are found before generation
    for wrong in (str(tmp_path / "drawn"), "own=", f"own={tmp_path / 'nope'}"):
        assert run("--against", wrong) == 2
        assert "--against takes NAME=FOLDER" in capsys.readouterr().err
    drawn[0].write_bytes(b"no image")
    assert run("--against", f"own={tmp_path / 'drawn'}") == 2
    assert f"{drawn[0]} cannot be read" in capsys.readouterr().err
