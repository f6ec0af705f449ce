"""Runs on a second device, where a tensor left on the CPU is an error, as on a GPU."""

# ruff: noqa: F811 (fixtures of other files are imported, and requested by name)

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_flow import flow_run, save_flux, save_sd3, write_captions
from helpers_host import host_device, on_device
from helpers_images import save_dinov2
from helpers_janus import janus_run, save_janus
from helpers_janus import write_captions as write_words
from helpers_learnt import plain as plain_images
from helpers_learnt import save_stripes
from helpers_runs import ROOT, curve, run_job, small_run
from helpers_video import credit_run
from helpers_voxels import CAPTIONS as OBJECTS
from helpers_voxels import save_voxel_model, voxel_run
from test_adversarial_scorer import clip  # noqa: F401
from test_adversarial_scorer import node as scorer_node
from test_image_rewards import MODELS, nodes, rollouts, values  # noqa: F401
from test_judge_train import config_of, parts  # noqa: F401
from test_yes_token import asked, judges  # noqa: F401

from vlrl.cli.main import main
from vlrl.config.resolve import plain
from vlrl.judge.local import LocalJudge
from vlrl.judge.question import JudgeTemplate, ReasoningOptions
from vlrl.judge.train.build import build_trainer as build_judge
from vlrl.judge.train.build import export
from vlrl.reward.tree import build_reward

FAMILIES = {
    "qwen2_vl": {},
    "qwen2_5_vl": {},
    "qwen3_vl": {"task__profile": "qwen3_vl", "policy__min_pixels": 65536},
}
pytestmark = pytest.mark.slow


def both(make: Callable[[str], dict[str, Any]]) -> None:
    """The run of each device, equal in every step.

    Adam's first step is the sign of a gradient, however small; with a large eps it is smooth, and
    differences of rounding, which later steps start from, stay small.
    """
    curves = []
    for device in (torch.device("cpu"), host_device()):
        job = {**make(device.type), "name": device.type}
        job["optim"] = {**job["optim"], "lr": 0.01, "eps": 0.1}
        with on_device(device):
            run_job({"config": job})
        curves.append([untimed(row) for row in curve(job)])
    for step, (wanted, found) in enumerate(zip(*curves, strict=True)):
        near = {"rel": 0.05, "abs": 1e-3} if step else {"rel": 1e-3, "abs": 1e-5}
        assert found == pytest.approx(wanted, **near)


def untimed(row: dict[str, float]) -> dict[str, float]:
    """A step's metrics without those of time and memory."""
    kept = ("update/", "reward/", "rollout/", "learn/")
    return {key: value for key, value in row.items() if key.startswith(kept) and value == value}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", ["on", "off"])
def test_answers_about_images(
    family: str,
    share: str,
    checkpoints: dict[str, Path],
    screens: Path,
    tmp_path: Path,
) -> None:
    over = {"policy__share_prompt": share, **FAMILIES[family]}
    job = small_run(checkpoints[family], screens, tmp_path, "run", **over)
    both(lambda _: job)


def test_other_ways_to_train_answers(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    """An adapter, checkpointing, two minibatches twice, several chunks, entropy, a running mean."""
    over = {
        "policy__lora": {"rank": 4},
        "dist__gradient_checkpointing": True,
        "dist__max_tokens_per_chunk": 256,
        "algo__num_minibatches": 2,
        "algo__num_epochs": 2,
        "algo__entropy_coef": 0.01,
        "optim__ema_decay": 0.5,
        "eval__splits": ["train"],
    }
    job = small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, "run", **over)
    both(lambda _: job)


def test_videos_paid_box_by_box(tmp_path: Path) -> None:
    """The shipped config and model."""
    job = plain(credit_run(tmp_path))
    both(lambda _: job)


@pytest.mark.parametrize("save", [save_sd3, save_flux])
@pytest.mark.parametrize(
    "over",
    [
        {"algo__kl_beta": 0.04, "policy__ratio": "guard", "policy__same_noise": True},
        {"algo__kl_beta": 0.04, "algo__objective": "nft"},
        {"algo__kl_beta": 0.04, "policy__lora": {"rank": 2}, "optim__ema_decay": 0.5},
    ],
)
def test_images_train_alike_on_a_second_device(
    save: Any, over: dict[str, Any], tmp_path: Path
) -> None:
    """With a reward that learns, on the same device."""
    model, data = save(tmp_path / "model"), write_captions(tmp_path / "data")
    learnt = {"use": "adversarial_dino", "model": str(save_dinov2(tmp_path / "dino")), "width": 8}
    if save is save_flux:
        over = {**over, "policy__guidance": "distilled"}

    def make(device: str) -> dict[str, Any]:
        job = flow_run(model, data, tmp_path, "run", policy__latent_dtype="fp32", **over)
        return {**job, "reward": {**learnt, "device": device, "num_patches": 0}}

    both(make)


def test_image_tokens_train_alike_on_a_second_device(tmp_path: Path) -> None:
    model, data = save_janus(tmp_path / "model"), write_words(tmp_path / "data")
    job = janus_run(model, data, tmp_path, "run", algo__kl_beta=0.04)
    both(lambda _: job)


def test_objects_of_voxels(tmp_path: Path) -> None:
    model, data = save_voxel_model(tmp_path / "model"), tmp_path / "data.jsonl"
    rows = [{"id": str(k), "caption": text} for k, text in enumerate(OBJECTS)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = voxel_run(model, data, tmp_path, "run", algo__kl_beta=0.04)
    both(lambda _: job)


@pytest.mark.parametrize("benchmark", ["new_screens", "clips"])
def test_evaluations_agree_on_a_second_device(benchmark: str, tmp_path: Path) -> None:
    """The command, with the embedded models."""
    model = {"new_screens": "tiny_qwen2_5_vl", "clips": "tiny_video"}[benchmark]
    outputs = []
    for device in (torch.device("cpu"), host_device()):
        out = tmp_path / device.type
        with on_device(device):
            command = ["eval", "--benchmark", benchmark, "--limit", "3", "--out", str(out)]
            assert main([*command, "--model", str(ROOT / "assets/models" / model)]) == 0
        paths = out.rglob("predictions.jsonl")
        rows = [line for path in paths for line in path.read_text().splitlines()]
        outputs.append([json.loads(row)["output"] for row in rows])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 3


def test_scores_of_models(nodes: dict[str, dict], rollouts: list) -> None:
    """Nearly the CPU's: torchvision resizes bytes there, and floats that it rounds elsewhere."""
    device = host_device()
    with on_device(device):
        for name in set(MODELS) - {"hps"}:  # which is open_clip once more, and large
            low, high = build_reward(nodes[name]).range
            near = pytest.approx(values(nodes[name], rollouts), abs=2e-3 * (high - low))
            assert values({**nodes[name], "device": device.type}, rollouts) == near, name


def test_rewards_learn_and_go_on(clip: str, tmp_path: Path) -> None:
    """Both learning rewards: one update, and a second one from its saved state."""
    second = host_device()
    shown = plain_images(save_stripes(tmp_path))
    dino = {"use": "adversarial_dino", "model": str(save_dinov2(tmp_path / "dino")), "width": 8}
    for node in (scorer_node(clip), dino):
        scores = []
        for device in (torch.device("cpu"), second):
            with on_device(device):
                first, again = (build_reward({**node, "device": device.type}) for _ in range(2))
                metrics = first.update(shown)
                again.load_state_dict(first.state_dict())
                scores.append([score.value for score in again(shown)])
                assert scores[-1] == pytest.approx([score.value for score in first(shown)])
                assert metrics
        assert scores[1] == pytest.approx(scores[0], abs=1e-3)


@pytest.mark.parametrize("kind", ["yes_token", "bradley_terry"])
def test_judges_train_alike_on_a_second_device(
    kind: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    losses = []
    for device in (torch.device("cpu"), host_device()):
        with on_device(device):
            trainer = build_judge(config_of(parts, tmp_path, device.type, kind=kind))
            losses.append([trainer.train_step()["loss"] for _ in range(2)])
            export(trainer)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_judges_answer_alike_on_a_second_device(
    family: str, judges: dict[str, Path], tmp_path: Path
) -> None:
    host_device()
    book, asks = asked(tmp_path, examples=True)
    found = []
    for device in ("cpu", "host"):
        with on_device(torch.device(device)):
            for reasoning in (None, ReasoningOptions(max_tokens=3)):
                judge = LocalJudge.load(
                    str(judges[family]), JudgeTemplate(), reasoning=reasoning, device=device
                )
                found.append([reading.yes for reading in judge.ask(book, asks)])
    assert found[2] == pytest.approx(found[0], abs=1e-4)
    assert found[3] == pytest.approx(found[1], abs=1e-4)


def test_a_mask_left_on_the_cpu_is_an_error() -> None:
    """The error that the tests above would show."""
    numbers = torch.ones(2, 3, device=host_device())
    for use in (
        lambda: torch.where(torch.ones(2, 3) > 0, numbers, 0.0),
        lambda: numbers + torch.ones(2, 3),
        lambda: numbers.gather(0, torch.zeros(1, 3, dtype=torch.long)),
        lambda: torch.nn.functional.embedding(torch.zeros(2, dtype=torch.long), numbers),
    ):
        with pytest.raises(RuntimeError, match=r"on cpu|same device"):
            use()
    with pytest.raises(TypeError, match="numpy"):
        numbers.numpy()
