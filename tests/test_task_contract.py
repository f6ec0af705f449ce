"""What holds for every registered task, on the embedded data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_contract import ROOT, answers_by_task, groups_of
from helpers_images import noise_image
from PIL import Image

from vlrl.audit.known import known_groups, ranked, why_not_ranked
from vlrl.audit.one_right import one_right
from vlrl.build import build_scored, build_task, check_plugins
from vlrl.config.loader import compose
from vlrl.config.resolve import check, load_run_config
from vlrl.config.schema import RunConfig
from vlrl.protocols import Task
from vlrl.registry import REGISTRY, resolve
from vlrl.stats import evenly
from vlrl.types import Finish, Rollout

RECIPES = {
    "gui_grounding": "gui_grounding/tiny.yaml",
    "text_to_image": "image_generation/tiny.yaml",
    "text_to_3d": "text_to_3d/tiny.yaml",
    "video_grounding": "video_grounding/tiny.yaml",
    "visual_reasoning": "visual_reasoning/tiny.yaml",
}


def judging_run(folder: Path) -> RunConfig:
    """Pairs of noise for the task that has no embedded data."""
    rows = []
    for i in range(3):
        for side in "cr":
            Image.fromarray(noise_image(i, 56, 56)).save(folder / f"{i}{side}.png")
        row = {"id": f"p{i}", "caption": "a cat", "kind": "blur"}
        rows.append({**row, "chosen": f"{i}c.png", "rejected": f"{i}r.png"})
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config: dict[str, Any] = {
        "name": "judging",
        "num_steps": 1,
        "task": {"use": "preference_judgement", "data": {"train": {"path": str(path)}}},
        "policy": {"use": "vision_language", "model": "unused"},
        "reward": {"use": "verdict_match"},
        "algo": {"num_prompts": 2, "group_size": 2},
        "dist": {"deepspeed": str(ROOT / "deepspeed_configs/zero0.json")},
    }
    return check_plugins(check(RunConfig, config))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Task]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        configs = {
            name: check_plugins(load_run_config([str(ROOT / "configs" / recipe)], []))
            for name, recipe in RECIPES.items()
        }
        configs["preference_judgement"] = judging_run(tmp_path_factory.mktemp("pairs"))
        yield {name: build_task(config) for name, config in configs.items()}


def test_every_registered_task_stands_the_contract(tasks: dict[str, Task]) -> None:
    assert set(tasks) == set(REGISTRY["task"])
    for name, task in tasks.items():
        assert isinstance(task, resolve("task", name))


@pytest.mark.parametrize("name", REGISTRY["task"])
def test_samples_have_unique_ids_and_a_fixed_order(tasks: dict[str, Task], name: str) -> None:
    first, again = tasks[name].samples("train"), tasks[name].samples("train")
    ids = [sample.id for sample in first]
    assert len(set(ids)) == len(ids) > 0
    assert ids == [sample.id for sample in again]
    for sample in first[:50]:
        assert sample.prompt
        assert all(message.parts for message in sample.prompt)


@pytest.mark.parametrize("name", REGISTRY["task"])
def test_strata_are_words_and_the_difficulty_is_a_share(tasks: dict[str, Task], name: str) -> None:
    for sample in tasks[name].samples("train")[:50]:
        assert all(isinstance(x, str) for pair in tasks[name].strata(sample).items() for x in pair)
        size = tasks[name].difficulty(sample)
        assert math.isnan(size) or 0 < size <= 1


@pytest.mark.parametrize("name", REGISTRY["task"])
def test_an_answer_that_is_nothing_is_read_measured_and_drawn(
    tasks: dict[str, Task], name: str
) -> None:
    task = tasks[name]
    nothing = None if name in ("text_to_image", "text_to_3d") else "\x00 } ] nonsense <answer>"
    rollouts = [
        Rollout(sample, i, 0, nothing, Finish.LENGTH, 0, 0, parsed=task.parse(sample, nothing))
        for i, sample in enumerate(task.samples("train")[:3])
    ]
    metrics = task.metrics(rollouts)
    assert metrics
    assert all(len(column) == len(rollouts) for column in metrics.values())
    for rollout in rollouts:
        drawn = task.draw(rollout.sample, [rollout])
        assert drawn is None or min(drawn.size) > 0


@pytest.mark.parametrize("name", REGISTRY["task"])
def test_metrics_are_one_number_per_rollout_and_the_same_in_any_order(
    tasks: dict[str, Task], name: str, tmp_path: Path
) -> None:
    rollouts = groups_of(answers_by_task(tmp_path)[name], seed=0)
    metrics = tasks[name].metrics(rollouts)
    backwards = tasks[name].metrics(rollouts[::-1])
    assert set(metrics) == set(backwards)
    for key, column in metrics.items():
        assert len(column) == len(rollouts)
        assert not any(math.isinf(value) for value in column), key
        assert list(backwards[key])[::-1] == pytest.approx(list(column), nan_ok=True), key


def test_no_metrics_of_no_rollouts(tasks: dict[str, Task]) -> None:
    for name, task in tasks.items():
        assert all(len(column) == 0 for column in task.metrics([]).values()), name


@pytest.mark.parametrize("name", REGISTRY["task"])
def test_known_answers_are_read_and_judged_as_they_are_meant(
    tasks: dict[str, Task], name: str
) -> None:
    """Every wrong answer is another one than the right one, and no task takes it for right."""
    task = tasks[name]
    kinds: set[str] = set()
    for sample in task.samples("train")[:40]:
        known = task.known_answers(sample)
        if known is None:
            continue
        outputs = {"": known.right, **known.wrong}
        rollouts = {
            kind: Rollout(sample, 0, i, one, Finish.STOP, 0, 0, parsed=task.parse(sample, one))
            for i, (kind, one) in enumerate(outputs.items())
        }
        assert rollouts[""].parsed is not None
        assert task.is_right(rollouts.pop("")) in (True, None)
        for kind, rollout in rollouts.items():
            assert task.is_right(rollout) is not True, (sample.id, kind)
        kinds |= set(known.wrong)
    assert len(kinds) >= 2, kinds


RULES = {
    "gui_grounding": ("gui_g1", "gui_g2", "gta1", "se_gui", "infigui_g1", "hit", "iou"),
    "video_grounding": ("stvg_o1", "stvg_no_thinking", "stvg_o1_credit", "tube_iou"),
    "visual_reasoning": ("rewardmap", "grip"),
    "text_to_3d": ("shape_boundary", "shape_counted"),
}


@pytest.mark.parametrize(("name", "tree"), [(n, tree) for n, own in RULES.items() for tree in own])
def test_shipped_rules_put_the_right_answer_before_every_known_wrong_one(
    tasks: dict[str, Task], name: str, tree: str
) -> None:
    task = tasks[name]
    samples = evenly(task.samples("train"), 4 if name == "text_to_3d" else 12)
    groups = known_groups(task, samples, [])
    assert len(groups) == len(samples)
    node = compose([f"rewards/{tree}"])["reward"]
    reward = build_scored(name, node, "reward", type(task))
    assert why_not_ranked(reward, groups) == ""
    assert one_right(ranked(reward, groups)).accuracy["mean"] == 1.0
