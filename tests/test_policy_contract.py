"""What holds for every registered policy, on tiny models of the real classes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_flow import flow_run, save_sd3
from helpers_flow import write_captions as flow_captions
from helpers_janus import janus_run, save_janus
from helpers_janus import write_captions as janus_captions
from helpers_runs import small_run
from helpers_voxels import boxes, save_voxel_model, voxel_run

from vlrl.build import build_trainer
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.mesh.store import save_shapes
from vlrl.mesh.voxelise import Voxels
from vlrl.registry import REGISTRY, resolve

GROUPS, EACH = 2, 3


def captions_of_shapes(folder: Path) -> Path:
    """Captions with a table each."""
    import json

    import numpy as np

    folder.mkdir()
    save_shapes(folder / "s.npz", {"t": Voxels(boxes(), np.full((16, 16, 16, 3), 9, np.uint8))})
    rows = [{"id": f"t{i}", "caption": f"table {i}", "reference": "s.npz#t"} for i in range(4)]
    path = folder / "shapes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trainers(
    checkpoints: dict[str, Path], screens: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A trainer per policy: task and policy as a run has them."""
    base = tmp_path_factory.mktemp("policies")
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "vision_language": lambda: small_run(checkpoints["qwen2_5_vl"], screens, base, "words"),
        "flow": lambda: flow_run(
            save_sd3(base / "sd3"), flow_captions(base / "captions"), base, "flow"
        ),
        "image_tokens": lambda: janus_run(
            save_janus(base / "janus"), janus_captions(base / "words"), base, "tokens"
        ),
        "voxel_tokens": lambda: voxel_run(
            save_voxel_model(base / "voxel"), captions_of_shapes(base / "shapes"), base, "voxels"
        ),
    }
    made = {name: build_trainer(check(RunConfig, run()), None) for name, run in runs.items()}
    for (
        trainer
    ) in made.values():  # the module itself: under DeepSpeed, gradients go through its engine
        trainer.policy.bind(trainer.policy.module, nullcontext)
    return made


def drawn(trainer: Any, seed: int = 1, **options: Any) -> tuple[list[Any], Any]:
    """Rollouts of the first samples, and their trajectory."""
    return trainer.policy.sample(trainer.task.samples("train")[:GROUPS], EACH, seed, **options)


def test_every_registered_policy_stands_the_contract(trainers: dict[str, Any]) -> None:
    assert set(trainers) == set(REGISTRY["policy"]) == set(REGISTRY["policy_options"])
    for name, trainer in trainers.items():
        assert isinstance(trainer.policy, resolve("policy", name))
        assert isinstance(trainer.policy.module, torch.nn.Module)


@pytest.mark.parametrize("name", REGISTRY["policy"])
def test_it_samples_group_by_group_and_hands_on_whole_groups(
    trainers: dict[str, Any], name: str
) -> None:
    trainer, handed = trainers[name], []
    rollouts, trajectory = drawn(trainer, ready=handed.extend)
    assert [(r.group, r.index) for r in rollouts] == [
        (group, index) for group in range(GROUPS) for index in range(EACH)
    ]
    assert handed == rollouts
    samples = trainer.task.samples("train")
    assert all(rollout.sample.id == samples[rollout.group].id for rollout in rollouts)
    assert {rollout.policy_version for rollout in rollouts} == {trainer.policy.version}
    assert len(trajectory) == len(rollouts)
    assert trajectory.group.tolist() == [rollout.group for rollout in rollouts]
    assert trajectory.mask.dtype == torch.bool
    assert trajectory.mask.shape == trajectory.logp.shape
    assert trajectory.mask.any(1).all()
    assert trajectory.logp[trajectory.mask].isfinite().all()


@pytest.mark.parametrize("name", REGISTRY["policy"])
def test_the_seed_alone_decides_what_is_sampled(trainers: dict[str, Any], name: str) -> None:
    (_, first), (_, again), (_, other) = (drawn(trainers[name], seed) for seed in (1, 1, 2))
    assert torch.equal(first.logp[first.mask], again.logp[again.mask])
    assert first.logp[first.mask].tolist() != other.logp[other.mask].tolist()


@pytest.mark.parametrize("name", REGISTRY["policy"])
def test_it_evaluates_its_own_actions_as_it_sampled_them(
    trainers: dict[str, Any], name: str
) -> None:
    policy = trainers[name].policy
    _, trajectory = drawn(trainers[name])
    evaluation = policy.evaluate(trajectory)
    assert evaluation.logp.shape == trajectory.logp.shape
    mask = trajectory.mask
    found, sampled = evaluation.logp.detach().cpu()[mask], trajectory.logp[mask]
    assert torch.allclose(found, sampled, atol=2e-3), float((found - sampled).abs().max())
    evaluation.logp[mask.to(evaluation.logp.device)].sum().backward()
    gradients = [p.grad for p in policy.module.parameters() if p.grad is not None]
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    policy.module.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", REGISTRY["policy"])
def test_a_plan_holds_every_row_once(trainers: dict[str, Any], name: str) -> None:
    _, trajectory = drawn(trainers[name])
    for rows in (range(len(trajectory)), [4, 1, 3]):
        chunks = trainers[name].policy.plan(trajectory, list(rows))
        assert all(chunks)
        assert sorted(row for chunk in chunks for row in chunk) == sorted(rows)


@pytest.mark.parametrize("name", REGISTRY["policy"])
def test_a_trajectory_is_cut_and_joined_again(trainers: dict[str, Any], name: str) -> None:
    _, whole = drawn(trainers[name])
    parts = [whole.only_group(group) for group in range(GROUPS)]
    assert all(set(part.group.tolist()) == {0} for part in parts)
    joined = type(whole).join(parts)
    assert joined.group.tolist() == whole.group.tolist()
    assert torch.equal(joined.logp[joined.mask], whole.logp[whole.mask])
    some = whole.select([5, 0])
    assert some.group.tolist() == [1, 0]
    assert torch.equal(some.logp[0][some.mask[0]], whole.logp[5][whole.mask[5]])
