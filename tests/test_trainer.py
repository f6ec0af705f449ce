"""The trainer's invariants on one rank."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepspeed.utils import safe_get_full_grad
from helpers_runs import ROOT, curve, run_job, small_run, staged
from PIL import Image
from safetensors.torch import load_file

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.distributed import comm
from vlrl.distributed.ema import WeightAverage, held
from vlrl.distributed.engine import Engine
from vlrl.errors import CheckpointError, ConfigError, DataError, NonFiniteError, RewardError
from vlrl.log.metrics import Meter
from vlrl.train.credit import stage_advantages
from vlrl.train.curriculum.curriculum import Curriculum
from vlrl.train.sampler import PromptSampler
from vlrl.train.update import update

ADAPTER = {"policy__lora": {"rank": 2, "alpha": 4}, "policy__train_vision": False}
SAME = ("update/loss", "reward/mean", "update/grad_norm", "update/kl", "update/entropy")


@pytest.fixture
def config(checkpoints: dict[str, Path], screens: Path, tmp_path: Path) -> Any:
    def make(name: str = "run", **over: Any) -> dict[str, Any]:
        return small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, name, **over)

    return make


def trainer_of(config: dict[str, Any], resume: str | None = None) -> Any:
    return build_trainer(check(RunConfig, config), resume)


def weights_of(trainer: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.policy.module.parameters()])


@pytest.mark.parametrize(("precision", "gap"), [("fp32", 1e-4), ("bf16", 0.1)])
def test_the_ratio_is_exactly_one_on_the_first_update(
    config: Any, precision: str, gap: float
) -> None:
    for share in ("on", "off"):
        trainer = trainer_of(config(share, policy__share_prompt=share, dist__precision=precision))
        metrics = trainer.train_step()
        assert metrics["update/ratio"] == 1.0
        assert metrics["update/ratio_max"] == 1.0
        assert metrics["update/clip_fraction"] == 0.0
        assert metrics["update/kl"] == 0.0
        assert metrics["update/sampling_gap"] < gap
        # The next rollout is fresh too, and now the reference has been left.
        metrics = trainer.train_step()
        assert metrics["update/ratio"] == 1.0
        assert metrics["update/kl"] > 0.0
        assert metrics["rollout/staleness"] == 0.0


def test_scoring_overlap_sampling_changes_no_figure(config: Any) -> None:
    metrics = {}
    for choice in ("on", "off"):
        over = {"scoring__overlap_sampling": choice, "policy__sample_batch_size": 4}
        trainer = trainer_of(config(choice, **over))
        metrics[choice] = [trainer.train_step() for _ in range(2)]
    for one, other in zip(metrics["on"], metrics["off"], strict=True):
        assert one.pop("scoring/overlapped_s") > 0
        same = [name for name in other if not name.startswith("time/")]
        assert {name: one[name] for name in same} == {name: other[name] for name in same}


def test_later_epochs_move_the_ratio_and_start_from_the_same_log_probs(config: Any) -> None:
    trainer = trainer_of(config(algo__num_epochs=2, algo__num_minibatches=2))
    metrics = trainer.train_step()
    assert trainer.version == 4
    assert metrics["update/ratio_max"] > 1.0


def test_a_sample_drawn_twice_in_a_step_has_two_groups(config: Any) -> None:
    """More prompts per step than samples: the answers must not repeat."""
    trainer = trainer_of(config(algo__num_prompts=8))
    drawing, stages = trainer.drawing, trainer.curriculum.stages
    drawing.samples = drawing.samples[:4]
    drawing.curriculum = Curriculum(stages, drawing.samples, trainer.task, "train", seed=0)
    rollouts = trainer.collect(Meter()).rollouts
    answers: dict[str, list[list[str]]] = {}
    for start in range(0, len(rollouts), trainer.config.algo.group_size):
        group = rollouts[start : start + trainer.config.algo.group_size]
        answers.setdefault(group[0].sample.id, []).append([r.output for r in group])
    assert [len(groups) for groups in answers.values()] == [2] * 4
    assert all(first != second for first, second in answers.values())


@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
def test_the_gradient_is_the_same_for_any_chunk_and_layout(config: Any, aggregate: str) -> None:
    """Largest difference in any tensor, relative to that tensor's largest value; away from the
    reference, so that its KL has a gradient."""
    gradients = []
    for i, (budget, share) in enumerate([(4096, "on"), (70, "on"), (4096, "off"), (40, "off")]):
        trainer = trainer_of(
            config(
                f"{aggregate}{i}",
                dist__max_tokens_per_chunk=budget,
                policy__share_prompt=share,
                algo__aggregate=aggregate,
                algo__entropy_coef=0.01,
            )
        )
        make = torch.Generator().manual_seed(0)
        named = dict(trainer.policy.module.named_parameters())
        with torch.no_grad():
            for parameter in named.values():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=make))
        step, found = trainer.engine.step, {}

        def noted(
            suspects: list[str], step: Any = step, named: Any = named, found: Any = found
        ) -> float:
            found |= {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
            return step(suspects)

        trainer.engine.step = noted
        metrics = trainer.train_step()
        assert metrics["update/kl"] > 1e-4
        gradients.append(found)
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, wanted in gradients[0].items():
            gap = float((other[name] - wanted).abs().max())
            assert gap < 2e-4 * float(wanted.abs().max()) + 1e-9, name


@pytest.mark.parametrize("kind", ["batch_std", "global_std"])
def test_one_deviation_of_the_whole_batch(config: Any, kind: str) -> None:
    """By numpy: of the rewards less their group's mean, or of the rewards themselves."""
    trainer = trainer_of(config(algo__advantage=kind, algo__advantage_eps=1e-12))
    rewards = torch.tensor([0.1, 0.5, 3.0, math.nan, 3.5, 4.0, 7.0, 6.0])
    group = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2])
    rows = [[0.1, 0.5], [3.0, 3.5, 4.0], [7.0, 6.0]]
    centred = np.concatenate([np.array(row) - np.mean(row) for row in rows])
    std = {
        "batch_std": np.std(centred, ddof=1),
        "global_std": np.std(np.concatenate(rows)),
    }[kind]
    got = stage_advantages(rewards[:, None], group, trainer.config.algo, trainer.world)[:, 0]
    assert got[3] == 0.0
    assert got[~rewards.isnan()].tolist() == pytest.approx((centred / std).tolist(), rel=1e-5)


def test_nothing_to_learn_from_is_no_step(config: Any) -> None:
    over = {"reward": {"use": "box_hit"}, "algo__drop_zero_variance": True}
    trainer = trainer_of(config(**over))
    before = weights_of(trainer)
    metrics = trainer.train_step()
    assert metrics["filter/zero_variance"] == 1.0
    assert metrics["filter/kept"] == 0.0
    assert metrics["update/skipped"] == 1.0
    assert torch.equal(weights_of(trainer), before)
    assert trainer.version == 0


def test_resampling_draws_again_and_counts(config: Any) -> None:
    over = {
        "reward": {"use": "box_hit"},
        "algo__drop_zero_variance": True,
        "algo__resample_rounds": 2,
    }
    trainer = trainer_of(config(**over))
    metrics = trainer.train_step()
    assert trainer.curriculum.position == 12
    assert metrics["filter/resampled_groups"] == 4.0
    assert len({r.group for r in trainer.collect(Meter()).rollouts}) == 4


@pytest.mark.parametrize(
    ("where", "precision", "stage"),
    [
        ("loss", "fp32", 2),
        *(("gradient", precision, stage) for precision in ("fp32", "bf16") for stage in range(4)),
    ],
)
def test_what_is_not_finite_stops_before_the_step_and_names_samples(
    config: Any, where: str, precision: str, stage: int
) -> None:
    """Also if DeepSpeed finds it first: it would silently skip the step."""
    sharding = str(ROOT / f"deepspeed_configs/zero{stage}.json")
    over = {"dist__precision": precision, "dist__deepspeed": sharding}
    trainer = trainer_of(config(algo__kl_beta=0.0, optim__ema_decay=0.5, **over))
    experience = trainer.collect(Meter())
    batch = trainer.prepare(experience, Meter())
    if where == "loss":
        batch.advantage[0] = math.nan
    else:
        scaled = trainer.policy.module.distribution
        trainer.policy.module.distribution = lambda logits, *rest: scaled(_endless(logits), *rest)
    before = [held(p).detach().clone() for p in trainer.policy.module.parameters()]
    with pytest.raises(NonFiniteError, match=r"s[0-9]"):
        update(trainer.policy, trainer.engine, batch, trainer.config.algo, trainer.world, Meter())
    after = [held(p) for p in trainer.policy.module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.engine.average.num_updates == 0


# Not 3: DeepSpeed's trace of a second tiny engine in one process is not its own.
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_steps_below_half_precision_add_up(config: Any, stage: int) -> None:
    """Near 1 bf16 counts in steps of 1/128 and 1/256: a norm's weight would stay there for ever."""
    sharding = str(ROOT / f"deepspeed_configs/zero{stage}.json")
    over = {"dist__precision": "bf16", "dist__deepspeed": sharding, "optim__lr": 5e-4}
    run = check(RunConfig, config(**over))
    world = comm.init(run.dist.timeout_s)
    norm = torch.nn.RMSNorm(8, dtype=torch.bfloat16)
    engine = Engine(norm, run, world)
    inputs = torch.ones(1, 8, dtype=torch.bfloat16)
    for step in range(10):
        engine.backward(engine(inputs).float().sum())
        engine.step([])
        with engine.serving():
            found = [float(p) for p in next(engine.engine.module.parameters())]
        assert step > 0 or found == [1.0] * 8
    assert found == pytest.approx([1 - 10 * 5e-4] * 8, abs=2e-3)
    assert max(found) < 1
    engine.engine.destroy()


@pytest.mark.parametrize("stage", [2, 3])
def test_gradients_of_many_chunks_add_up_in_float32(config: Any, stage: int) -> None:
    """In bf16, 128 chunks are as close to the exact sum as one; summed in bf16 they are not."""
    sharding = str(ROOT / f"deepspeed_configs/zero{stage}.json")
    run = check(RunConfig, config(dist__precision="bf16", dist__deepspeed=sharding))
    world = comm.init(run.dist.timeout_s)
    make = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
    engine = Engine(linear, run, world)
    inputs = torch.randn(128, 1, 64, generator=make).bfloat16()
    wanted = torch.randn(128, 1, 64, generator=make).bfloat16()
    for x, w in zip(inputs, wanted, strict=True):
        engine.backward((engine(x).float() * w.float()).sum())
    weight = next(engine.engine.module.parameters())
    found = safe_get_full_grad(weight).double()
    exact = torch.einsum("cbo,cbi->oi", wanted.double(), inputs.double())
    assert float((found - exact).norm() / exact.norm()) < 0.004
    engine.engine.destroy()


def test_the_average_takes_in_the_weights_once_an_optimizer_step(config: Any) -> None:
    """Hand-worked: decay 2/11, then 3/12, then the configured 0.28, below the ramp's 4/13."""
    sharding = str(ROOT / "deepspeed_configs/zero0.json")
    over = {"optim__ema_decay": 0.28, "optim__lr": 0.1, "dist__deepspeed": sharding}
    run = check(RunConfig, config(**over))
    world = comm.init(run.dist.timeout_s)
    engine = Engine(torch.nn.Linear(3, 2, bias=False), run, world)
    weight = next(engine.engine.module.parameters())
    wanted = weight.detach().double().clone()
    for num, decay in enumerate((2 / 11, 3 / 12, 0.28), start=1):
        for scale in (1.0, 2.0):
            engine.backward(engine(torch.tensor([[1.0, -1.0, scale]])).sum())
        engine.step(["s0"])
        wanted = decay * wanted + (1 - decay) * weight.detach().double()
        assert engine.average is not None
        assert engine.average.num_updates == num
        assert torch.allclose(engine.average.shadow[0].double(), wanted, atol=1e-6)
    now = weight.detach().clone()
    with engine.averaged():
        assert torch.allclose(weight.double(), wanted, atol=1e-6)
    assert torch.equal(weight, now)
    assert not torch.allclose(weight.double(), wanted, atol=1e-3)
    engine.engine.destroy()


@pytest.mark.parametrize(("decay", "every", "repeats"), [(0.5, 1, 1), (0.25, 3, 1), (0.9, 8, 2)])
def test_the_average_takes_its_turn(decay: float, every: int, repeats: int) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    average, wanted = WeightAverage([weight], decay, every, repeats), 0.0
    for step in range(1, 100):
        weight.data.fill_(float(step))
        average.update()
        if (step + 1) % every == 0:
            now = min(decay, (1 + step) / (10 + step))
            for _ in range(repeats):
                wanted = now * wanted + (1 - now) * step
        assert average.shadow[0].item() == pytest.approx(wanted, rel=1e-5)


def _endless(logits: torch.Tensor) -> torch.Tensor:
    """The same numbers, with a gradient that is not finite."""
    if logits.requires_grad:
        logits.register_hook(lambda gradient: gradient * math.inf)
    return logits


@pytest.mark.parametrize(
    "over",
    [
        {},
        staged(),
        {**staged(), "rollouts__ahead": 1, "algo__rollout_correction": {}},
        pytest.param(ADAPTER, marks=pytest.mark.slow),
    ],
    ids=["all_weights", "curriculum", "curriculum_ahead", "adapter"],
)
def test_resumed_equals_uninterrupted_to_the_last_bit(config: Any, over: dict[str, Any]) -> None:
    more = {"num_steps": 4, "optim__schedule": "cosine", "algo__num_epochs": 2, **over}
    more["log__rollouts_every"] = 1
    straight = config("straight", **more)
    run_job({"config": straight})
    cut = config("cut", **more, checkpoint__every=2, checkpoint__keep_last=1)
    run_job({"config": cut, "stop_at": 3})
    # Step 3 was taken but never saved; its line is removed and written again.
    assert len(curve(cut)) == 3
    run_job({"config": cut, "resume": "auto"})
    assert [row["step"] for row in curve(cut)] == [1, 2, 3, 4]
    if "curriculum" in over:
        assert [row["curriculum/stage"] for row in curve(cut)] == [1, 2, 2, 3]
        assert ["update/kl" in row for row in curve(cut)] == [True, False, False, True]
        for step, stage in enumerate(("regions", "adaptive", "adaptive", "last"), start=1):
            record = Path(cut["out"]) / f"cut/rollouts/step-{step:06d}/group-0.json"
            assert json.loads(record.read_text(encoding="utf-8"))["stage"] == stage
    for a, b in zip(curve(straight), curve(cut), strict=True):
        for name in a:
            if not name.startswith("time/"):
                assert a[name] == b[name], name


def test_a_run_is_never_overwritten_and_never_resumed_elsewhere(config: Any) -> None:
    done = config("once", num_steps=1, checkpoint__at_end=True)
    run_job({"config": done})
    with pytest.raises(ConfigError, match="--resume"):
        trainer_of(done)
    other = {
        **done,
        "dist": {**done["dist"], "deepspeed": str(ROOT / "deepspeed_configs/zero1.json")},
    }
    with pytest.raises(CheckpointError, match="at ZeRO stage 0, this run has stage 1"):
        trainer_of(other, "auto")


def test_export_loads_with_from_pretrained(config: Any) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    trainer = trainer_of(config("export", num_steps=1))
    trainer.train()
    folder = trainer.folder / "model"
    with trainer.engine.weights(folder.parent) as weights:
        trainer.policy.save_pretrained(str(folder), weights)
    assert list(folder.glob("*.safetensors"))
    assert not list(folder.glob("*.bin"))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    own = dict(trainer.policy.module.core.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, own[name]), name
    AutoProcessor.from_pretrained(folder)
    assert load_file(next(folder.glob("*.safetensors")))


def test_a_kill_in_the_middle_of_a_step_costs_that_step_only(config: Any) -> None:
    """kill -9 after the backward pass and before the optimizer, then the same curve."""
    straight = config("straight", num_steps=4)
    run_job({"config": straight})
    killed = config("killed", num_steps=4, checkpoint__every=1)
    folder = Path(killed["out"]) / "killed"
    job = folder.parent / "job.json"
    job.write_text(json.dumps([{"config": killed, "die_at": 2}]), encoding="utf-8")
    command = [sys.executable, str(ROOT / "tests/helpers_runs.py"), str(job)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "checkpoints/latest").read_text(encoding="utf-8").strip() == "step-000002"
    run_job({"config": killed, "resume": "auto"})
    assert_same(straight, killed)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same curve to the last bit."""
    for a, b in zip(curve(one), curve(other), strict=True):
        for name in SAME:
            if name in a:
                assert a[name] == b[name], (a["step"], name)


def test_a_kill_while_saving_leaves_the_last_good_checkpoint(config: Any) -> None:
    """kill -9 in the middle of a save, several times, then the curve continues unchanged."""
    straight = config("straight", num_steps=6)
    run_job({"config": straight})
    killed = config("killed", num_steps=6, checkpoint__every=1)
    folder = Path(killed["out"]) / "killed" / "checkpoints"
    job = folder.parent.parent / "job.json"
    job.write_text(json.dumps([{"config": killed, "resume": "auto"}]), encoding="utf-8")
    command = [sys.executable, str(ROOT / "tests/helpers_runs.py"), str(job)]
    process = subprocess.Popen(
        command, env={**os.environ, "DS_ACCELERATOR": "cpu"}, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 240
        while not list(folder.glob(".saving-step-000003")):
            assert process.poll() is None, "it ended before its third save"
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    latest = (folder / "latest").read_text(encoding="utf-8").strip()
    assert latest in ("step-000002", "step-000003")
    run_job({"config": killed, "resume": "auto"})
    assert_same(straight, killed)
    assert not list(folder.glob(".saving-*"))


@pytest.mark.parametrize("objective", ["clip", "gspo", "cispo"])
def test_training_raises_the_reward_by_more_than_its_noise(config: Any, objective: str) -> None:
    trainer = trainer_of(
        config(
            reward={"use": "helpers_runs:vowels"},
            algo__objective=objective,
            algo__group_size=8,
            algo__kl_beta=0.0,
            optim__lr=3e-3,
        )
    )
    curve_ = [trainer.train_step()["reward/mean"] for _ in range(25)]
    start, end = curve_[:5], curve_[-5:]
    assert min(end) > max(start), curve_


def test_a_broken_reward_is_an_error_and_never_a_zero(config: Any) -> None:
    trainer = trainer_of(config(reward={"use": "helpers_runs:broken"}))
    with pytest.raises(RewardError, match=r"broken.*the judge is down"):
        trainer.train_step()


def test_task_and_policy_must_see_the_same_image(config: Any) -> None:
    with pytest.raises(ConfigError, match="resizes its image"):
        trainer_of(config(policy__min_pixels=50_176))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_loaded(config: Any) -> None:
    job = {**config(), "out": "/proc/runs"}
    job["policy"]["model"] = "no/such/model"  # would be the next thing to fail
    with pytest.raises(ConfigError, match="out: nothing can be written to /proc/runs"):
        trainer_of(job)


def test_every_size_of_image_must_be_seen_alike(config: Any, screens: Path) -> None:
    """Different limits are detected on images that they resize, not on the first one."""
    rows = [json.loads(line) for line in screens.read_text(encoding="utf-8").splitlines()]
    large = screens.parent / "images/large.png"
    Image.new("RGB", (560, 420)).save(large)
    rows.append({**rows[0], "id": "large", "image": "images/large.png", "image_size": [560, 420]})
    path = screens.parent / "with_large.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    job = config(policy__max_pixels=50_176)
    trainer_of(job)  # small ones alone
    job["task"]["data"]["train"]["path"] = str(path)
    with pytest.raises(ConfigError, match=r"'large'.* resizes its image"):
        trainer_of({**job, "name": "large"})
    rows[-1]["image_size"] = [1120, 840]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=r"row 13.*says 1120 x 840, the image .* is 560 x 420"):
        trainer_of({**job, "name": "wrong"})


def test_a_resume_that_fails_leaves_the_record_and_one_that_differs_says_so(
    config: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job = config("again", num_steps=1, checkpoint__at_end=True)
    run_job({"config": job})
    record = Path(job["out"]) / "again/config.yaml"
    written = record.read_text(encoding="utf-8")
    job["dist"]["deepspeed"] = str(ROOT / "deepspeed_configs/zero2.json")
    with pytest.raises(CheckpointError, match=r"at ZeRO stage 0, this run has stage 2.*export"):
        trainer_of(job, "auto")
    assert record.read_text(encoding="utf-8") == written
    job["dist"]["deepspeed"] = str(ROOT / "deepspeed_configs/zero0.json")
    job["optim"]["lr"] = 0.5
    with caplog.at_level(logging.WARNING):
        trainer_of(job, "auto")
    assert "optim.lr: 0.001 -> 0.5" in caplog.text
    assert "name" not in caplog.text.partition("saved: ")[2]
    assert "lr: 0.5" in record.read_text(encoding="utf-8")


def test_the_sampler_is_a_shuffled_walk_whose_state_is_one_number() -> None:
    sampler = PromptSampler(7, seed=1)
    first = sampler.take(14)
    assert sorted(first[:7]) == sorted(first[7:]) == list(range(7))
    assert first[:7] != first[7:]
    again = PromptSampler(7, seed=1)
    again.position = 5
    assert again.take(9) == first[5:]
    assert PromptSampler(7, seed=2).take(7) != first[:7]
