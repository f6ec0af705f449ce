"""Judging as a task for GRPO, rejection sampling, and references made by a policy."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_flow import flow_run, save_sd3, write_captions
from helpers_judge import noise_image
from helpers_runs import ROOT
from PIL import Image

from vlrl.build import build_trainer, check_plugins, options_of
from vlrl.cli.main import main
from vlrl.config.loader import compose
from vlrl.config.resolve import check, load_run_config
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, DataError
from vlrl.judge.references import read_reference_cache
from vlrl.judge.train.config import JudgeTrainConfig
from vlrl.reward.tree import build_reward
from vlrl.tasks.preference_judgement import PreferenceJudgement
from vlrl.types import Finish, ImagePart, Rollout

RIGHT = (
    "<think>\n1. Look: Image 1 (8/10) - x; Image 2 (5/10) - y\n</think>\n"
    "<answer>Image 1 is better</answer>"
)


@pytest.fixture
def pairs(tmp_path) -> Path:
    rows = []
    for i in range(3):
        for side in "cr":
            Image.fromarray(noise_image(i, 56, 56)).save(tmp_path / f"{i}{side}.png")
        row = {"id": f"p{i}", "caption": "a <|im_end|> cat", "kind": "blur"}
        rows.append({**row, "chosen": f"{i}c.png", "rejected": f"{i}r.png"})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def task_of(path: Path, **options: Any) -> PreferenceJudgement:
    made = {"data": {"train": {"path": str(path)}}, **options}
    return PreferenceJudgement(PreferenceJudgement.Options(**made))


def answer(task: PreferenceJudgement, sample: Any, text: str) -> Rollout:
    return Rollout(sample, 0, 0, text, Finish.STOP, 1, 0, parsed=task.parse(sample, text))


def test_each_pair_is_asked_in_both_orders(pairs):
    task = task_of(pairs)
    samples = task.samples("train")
    assert [s.id for s in samples[:2]] == ["p0/12", "p0/21"]
    assert [s.target.verdict for s in samples[:2]] == [1, 2]
    shown = [[p.path[-6:] for p in s.prompt[0].parts if isinstance(p, ImagePart)] for s in samples]
    assert shown[:2] == [["0c.png", "0r.png"], ["0r.png", "0c.png"]]
    assert all("<|" not in text for text in samples[0].texts)
    alternate = task_of(pairs, orders="alternate").samples("train")
    assert [s.target.verdict for s in alternate] == [1, 2, 1]
    with pytest.raises(ValueError, match="exactly once"):
        task_of(pairs, prompt="{first} {caption}")
    text = {"caption": "x", "chosen_text": "a", "rejected_text": "b"}
    (pairs.parent / "t.jsonl").write_text(json.dumps(text) + "\n")
    with pytest.raises(DataError, match="row 1: this task compares images"):
        task_of(pairs.parent / "t.jsonl").samples("train")


def test_verdict_and_format_rewards(pairs):
    task = task_of(pairs)
    sample = task.samples("train")[0]
    verdict = build_reward({"use": "verdict_match"})
    form = build_reward({"use": "format"})
    wrong = RIGHT.replace("Image 1 is", "Image 2 is")
    cases = {RIGHT: (1, 1), wrong: (0, 1), RIGHT + "!": (1, 0), "Image 1 is better": (0, 0)}
    for text, expected in cases.items():
        one = answer(task, sample, text)
        assert (verdict([one])[0].value, form([one])[0].value) == expected, text
    strict = build_reward({"use": "verdict_match", "consistent": True})
    other = task.samples("train")[1]
    assert verdict([answer(task, other, wrong)])[0].value == 1.0
    assert strict([answer(task, other, wrong)])[0].value == 0.0
    metrics = task.metrics([answer(task, sample, text) for text in cases])
    assert metrics["right"] == [1, 0, 1, 0]
    assert metrics["contradicts"][:2] == [0.0, 1.0]
    assert np.isnan(metrics["contradicts"][3])
    assert task.draw(sample, []).size[0] >= 112


def test_a_vision_language_policy_trains_on_it(pairs, checkpoints, tmp_path):
    config = {
        "name": "judge",
        "out": str(tmp_path / "runs"),
        "num_steps": 1,
        "task": {"use": "preference_judgement", "data": {"train": {"path": str(pairs)}}},
        "policy": {
            "use": "vision_language",
            "model": str(checkpoints["qwen2_5_vl"]),
            "max_new_tokens": 4,
            "min_pixels": 3136,
            "max_pixels": 3136,
        },
        "reward": {"sum": [{"use": "verdict_match"}, {"use": "format"}]},
        "algo": {"num_prompts": 2, "group_size": 2},
        "dist": {"deepspeed": str(ROOT / "deepspeed_configs/zero0.json"), "num_threads": 1},
        "checkpoint": {"at_end": False, "export": False},
        "log": {"console": False, "report": False, "rollouts_every": 0},
    }
    metrics = build_trainer(check(RunConfig, config), None).train_step()
    assert metrics["reward/mean"] == 0.0  # random weights write no verdict
    assert metrics["reward_health/verdict_match_zero_variance"] == 1.0
    assert metrics["rollout/right"] == 0.0


def test_the_best_of_its_own_answers_is_kept(pairs):
    spec = importlib.util.spec_from_file_location("sj", ROOT / "scripts/sample_judgements.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    task = task_of(pairs)
    first, second = task.samples("train")[:2]
    longer = RIGHT.replace("x;", "a long reason;")
    wrong = RIGHT.replace("Image 1 is", "Image 2 is")
    tries = [answer(task, first, text) for text in (wrong, longer, RIGHT, RIGHT + "!", "")]
    assert script.best_of(task, tries) == RIGHT
    assert script.best_of(task, tries[:1]) is None
    row = script.row_of(second, wrong)
    assert (row["verdict"], Path(row["chosen"]).name) == (2, "0c.png")
    # As a row of the cold start it is queried in the order that it was written for.
    file = pairs.parent / "right.jsonl"
    file.write_text(json.dumps(row) + "\n")
    import random

    from vlrl.judge.data.preference import PreferenceSource
    from vlrl.judge.data.preferences import read_preferences
    from vlrl.judge.question import ImageBook, JudgeTemplate, Questions
    from vlrl.judge.train.items import items_of

    (pair,) = read_preferences(PreferenceSource(path=str(file))).good
    book = ImageBook()
    rng = random.Random(0)
    questions = Questions(JudgeTemplate())
    (item,) = items_of(pair, questions, book, both_orders=True, single=False, rng=rng)
    assert item.completion == wrong
    assert [Path(key).name for key in book.keys] == ["0r.png", "0c.png"]


def test_references_without_a_folder_say_so(capsys):
    assert main(["references", "--config", "image_generation/tiny", "references.num=1"]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_references_of_the_policy_and_the_best_of_n(tmp_path):
    model, data = save_sd3(tmp_path / "sd3"), write_captions(tmp_path / "data", 3)
    file = tmp_path / "run.json"
    file.write_text(json.dumps(flow_run(model, data, tmp_path, "r")), encoding="utf-8")
    score = tmp_path / "score.yaml"
    score.write_text("reward: {use: 'helpers_flow:lean'}\n", encoding="utf-8")
    command = ["references", "--config", str(file), "--out"]
    assert main([*command, str(tmp_path / "all"), "--num", "3", "--keep", "3"]) == 0
    best = [str(tmp_path / "best"), "references.num=3", "--keep", "1", "--score", str(score)]
    assert main([*command, *best]) == 0
    everything = read_reference_cache(tmp_path / "all/references.jsonl")
    chosen = read_reference_cache(tmp_path / "best/references.jsonl")
    assert list(everything) == list(chosen) == ["c0", "c1", "c2"]

    def lean(path: Path) -> float:
        image = np.asarray(Image.open(path)) / 255
        return float(image[:, :16].mean() - image[:, 16:].mean())

    for name, (path,) in chosen.items():
        assert lean(path) == max(lean(one) for one in everything[name])
    assert main([*command, str(tmp_path / "all"), "--num", "1"]) == 2  # is there already
    assert main([*command, str(tmp_path / "x"), "--num", "2"]) == 2  # the best by what?


def load_config(files):
    return check(JudgeTrainConfig, compose(files))


def test_the_configs_of_judges_are_whole():

    base = ROOT / "configs/judge"
    whole = load_config([base / "yes_token_qwen2_5_vl_7b.yaml"])
    assert whole.num_steps_total == 4500
    head = load_config([base / "yes_token_qwen2_5_vl_7b.yaml", base / "bradley_terry.yaml"])
    assert head.kind == "bradley_terry"
    assert load_config([base / "tiny_judge.yaml", base / "lora.yaml"]).lora is not None
    images = ROOT / "configs/image_generation"
    laid = check_plugins(load_run_config([images / "tiny.yaml", images / "tiny_judge.yaml"]))
    assert laid.reward["use"] == "yes_token"
    assert laid.health.canaries == ("concept",)
    assert "lr" not in laid.reward
    grpo = check_plugins(load_run_config([base / "unified_reward_think_7b.yaml"]))
    assert grpo.task["use"] == "preference_judgement"
    section = {"use": "preference_judgement", "data": {"t": {"path": 1}}, "splt": 1}
    with pytest.raises(ConfigError, match="splt"):
        options_of("task", section, PreferenceJudgement.Options)
