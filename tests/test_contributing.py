"""The examples of CONTRIBUTING.md and docs/families.md, as a new contributor would use them."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from helpers_runs import ROOT, run_config
from PIL import Image

from vlrl.build import build_task, build_trainer
from vlrl.config.resolve import check, load_run_config
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, DataError
from vlrl.reward.tree import build_reward
from vlrl.types import Finish, Rollout, Sample

TEXT = "".join(
    (ROOT / page).read_text(encoding="utf-8") for page in ("CONTRIBUTING.md", "docs/families.md")
)
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL))


class Workplace:
    """A folder outside the project with the files of the examples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in FILES.items():
            (folder / name).write_text(text, encoding="utf-8")

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(name)

    def section(self, name: str) -> dict[str, Any]:
        return yaml.safe_load(FILES[name])

    def train_one_step(self, name: str, **sections: Any) -> dict[str, float]:
        """A step of a run made of these sections; `model` is the embedded one."""
        words = {"use": "vision_language", "model": str(ROOT / "assets/models/tiny_qwen2_5_vl")}
        parts = {
            "policy": {**words, "max_new_tokens": 4},
            "algo": {"num_prompts": 2, "group_size": 2},
            **sections,
        }
        config = check(RunConfig, run_config(self.folder / "runs", name, parts, {"num_steps": 1}))
        return build_trainer(config, None).train_step()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Workplace(tmp_path)
    for name in set(sys.modules) - before:
        if f"{name}.py" in FILES:
            del sys.modules[name]


def draw_colours(folder: Path) -> None:
    """Two images of one colour each, and their rows."""
    rows = []
    for colour in ("red", "blue"):
        Image.new("RGB", (56, 84), colour).save(folder / f"{colour}.png")
        rows.append({"id": colour, "image": f"{colour}.png", "colour": colour})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "colours.jsonl").write_text(text, encoding="utf-8")


def draw_shots(folder: Path) -> Path:
    """Two screenshots in the format of the reader's example, as a benchmark keeps them."""
    (folder / "shots").mkdir()
    rows = []
    for i in range(2):
        Image.new("RGB", (200, 100), "white").save(folder / f"shots/{i}.png")
        rows.append({"shot": f"{i}.png", "ask": f"button {i}", "region": [10, 20, 30 + i, 40]})
    path = folder / "clicks_a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_example_is_found_and_every_python_one_parses() -> None:
    assert {Path(name).suffix for name in FILES} == {".py", ".yaml"}
    assert TEXT.count("<!-- file:") == len(FILES) == 10
    for name, text in FILES.items():
        if name.endswith(".py"):
            assert ast.get_docstring(ast.parse(text)), name


def test_the_reward_scores_and_trains(work: Workplace, screens: Path) -> None:
    reward = build_reward({"use": "capitals:capitals", "at_most": 0.75})
    sample = Sample("s", "any", (), None)
    answers = [
        Rollout(sample, 0, i, text, Finish.STOP, 1, 0) for i, text in enumerate(("AB", "Ab", "12"))
    ]
    assert [score.value for score in reward(answers)] == [0.75, 0.5, 0.0]
    task = {
        "use": "gui_grounding",
        "prompt": "Click: {instruction}",
        "data": {"train": {"path": str(screens)}},
    }
    metrics = work.train_one_step("reward", task=task, **work.section("reward.yaml"))
    assert 0 <= metrics["reward/mean"] <= 1.05


def test_the_reward_replaces_a_recipes_own(work: Workplace) -> None:
    recipe = str(ROOT / "configs/gui_grounding/tiny.yaml")
    config = load_run_config([recipe], [], "reward.yaml")
    assert config.reward == work.section("reward.yaml")["reward"]


def test_the_task_loads_its_rows_and_trains(work: Workplace) -> None:
    draw_colours(work.folder)
    metrics = work.train_one_step("task", **work.section("task.yaml"))
    assert metrics["rollout/right"] == metrics["reward/mean"] == 0.0  # it has never seen the task

    sections = {"task": work.section("task.yaml")["task"], "reward": {"use": "format"}}
    whole = run_config(work.folder, "x", {**sections, "policy": {}, "algo": {}}, {})
    task = build_task(check(RunConfig, whole))
    first, second = task.samples("train")
    assert (first.target, second.target) == ("red", "blue")
    assert task.parse(first, " Red\n") == "red"
    assert task.parse(first, "reddish") is None
    with (work.folder / "colours.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "x", "image": "red.png", "colour": "mauve"}\n')
    with pytest.raises(DataError, match="row 3: colour 'mauve'"):
        task.samples("train")


@pytest.mark.parametrize("kl_beta", [0.0, 0.1])
def test_the_policy_learns_the_task(work: Workplace, kl_beta: float) -> None:
    draw_colours(work.folder)
    (work.folder / "colours.jsonl").write_text(
        '{"id": "r", "image": "red.png", "colour": "red"}\n', encoding="utf-8"
    )
    parts = {
        **work.section("task.yaml"),
        **work.section("policy.yaml"),
        "algo": {"num_prompts": 1, "group_size": 16, "kl_beta": kl_beta},
    }
    over = {"num_steps": 12, "optim__lr": 0.2, "checkpoint__export": True}
    config = check(RunConfig, run_config(work.folder / "runs", "policy", parts, over))
    trainer = build_trainer(config, None)
    steps = [trainer.train_step() for _ in range(12)]
    assert steps[0]["update/ratio"] == pytest.approx(1.0)
    assert steps[0]["rollout/right"] < 0.7
    assert steps[-1]["rollout/right"] > 0.8
    assert not kl_beta or steps[-1]["update/kl"] > 0
    with trainer.engine.weights(work.folder) as weights:
        trainer.policy.save_pretrained(str(work.folder / "model"), weights)
    assert (work.folder / "model/table.safetensors").is_file()


def test_the_family_trains_and_its_coordinates_are_read(
    work: Workplace, screens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from families import checks
    from families.tiny import make

    from vlrl.families import known, profiles

    monkeypatch.delitem(known.FAMILIES, "llava")
    monkeypatch.setattr(profiles, "PROFILES", dict(profiles.PROFILES))
    row = work.module("my_row").ROW
    model = make("llava", row, work.folder / "llava")
    with pytest.raises(ConfigError, match="docs/families"):
        checks.policy_of(model)
    work.module("my_family")
    for hold in (checks.greedy_equals_generate, checks.log_probs_equal_forward):
        hold(model)
    assert checks.packed_equals_plain(model).startswith("log-probs")
    task = {
        "use": "gui_grounding",
        "profile": "my_clicker",
        "prompt": "Click: {instruction}",
        "data": {"train": {"path": str(screens)}},
    }
    policy = {"use": "vision_language", "model": str(model), "max_new_tokens": 4}
    reward = {"use": "helpers_runs:letters"}
    sections = {"task": task, "policy": policy, "reward": reward}
    metrics = work.train_one_step("family", **sections)
    assert metrics["update/ratio"] == pytest.approx(1.0, abs=1e-5)

    whole = run_config(work.folder, "x", {**sections, "algo": {}}, {})
    task = build_task(check(RunConfig, whole))
    sample = task.samples("train")[0]
    (click,) = task.parse(sample, "[500, 250]").points
    found = click.to(sample.target.box.frame)
    assert (found.x, found.y) == (
        sample.target.box.frame.width / 2,
        sample.target.box.frame.height / 4,
    )


def test_the_layout_reads_rows_and_the_benchmark_finds_them(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlrl.eval.gui import benchmarks
    from vlrl.eval.gui.items import Source, load_items
    from vlrl.gui.data.layouts import LAYOUTS

    for table in (LAYOUTS, benchmarks.BENCHMARKS):
        for name in list(table):
            monkeypatch.setitem(table, name, table[name])
    draw_shots(work.folder)
    work.module("my_format")
    work.module("my_benchmark")
    benchmark = benchmarks.benchmark_named("my_clicks")
    items = load_items(benchmark, Source(work.folder))
    assert [item.instruction for item in items] == ["button 0", "button 1"]
    assert items[1].target.xyxy == (10, 20, 41, 60)
    assert items[0].id == "clicks_a/1"
    del LAYOUTS["my_format"], benchmarks.BENCHMARKS["my_clicks"]


def test_the_changelog_names_every_renamed_key() -> None:
    from vlrl.config.renamed import KEYS, OPTIONS, PLUGINS, VALUES

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = [
        *((f"{section}.{old}", f"{section}.{new}") for (section, old), new in KEYS.items()),
        *(
            (f"{section}.{key}: {old}", f"{section}.{key}: {new}")
            for (section, key, old), new in VALUES.items()
        ),
        *((f"use: {old}", f"use: {new}") for old, new in PLUGINS.items()),
        *((f"{plugin}: {old}", f"{plugin}: {new}") for (plugin, old), new in OPTIONS.items()),
    ]
    for old, new in rows:
        assert f"| `{old}` | `{new}` |" in changelog


def test_the_page_tells_of_every_type() -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as TYPES,
    )

    from vlrl.families.known import FAMILIES

    page = (ROOT / "docs/families.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.-]+)` \| (packed|plain|no) \|", page, re.MULTILINE))
    ways = {kind: "packed" if family.packs else "plain" for kind, family in FAMILIES.items()}
    assert rows == {kind: ways.get(kind, "no") for kind in TYPES}
    assert len(ways) >= 40
