"""Learning from given answers: likelihood of right ones, better against worse."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_runs import small_run
from hypothesis import given
from hypothesis import strategies as st
from test_policy import make_policy, problems

from vlrl.algo.preference import preference
from vlrl.build import build_trainer, policy_options, read_parts
from vlrl.cli.supervised import answers_of
from vlrl.config.resolve import check
from vlrl.config.schema import AlgoConfig, RunConfig
from vlrl.config.supervised import DpoConfig, Kind, SftConfig, derived
from vlrl.errors import ConfigError, DataError
from vlrl.log.report.files import Run
from vlrl.log.report.images import groups
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.train.given_answers import pairs, recorded_pairs, right_answers
from vlrl.train.trainer import Trainer
from vlrl.types import Unfinished

SUMS = st.floats(-50, 0)


def test_preference_by_hand() -> None:
    now = torch.tensor([[-2.0, -3.0], [-4.0, -1.0]])
    reference = torch.tensor([[-2.5, -2.5], [-4.0, -1.0]])
    found = preference(now, reference, beta=0.5)
    assert found.margin.tolist() == [0.5, 0.0]  # 0.5 (0.5 + 0.5); nothing has moved
    assert found.loss.tolist() == pytest.approx([math.log(1 + math.exp(-0.5)), math.log(2)])
    slope = 0.5 / (1 + math.exp(0.5))
    assert found.weight.tolist() == [pytest.approx([slope, -slope]), pytest.approx([0.25, -0.25])]


@given(
    rows=st.lists(st.tuples(SUMS, SUMS, SUMS, SUMS), min_size=1, max_size=5),
    beta=st.floats(0.01, 2),
    smoothing=st.floats(0, 0.49),
)
def test_weights_are_the_gradient_of_the_loss(
    rows: list[tuple[float, ...]], beta: float, smoothing: float
) -> None:
    numbers = torch.tensor(rows, dtype=torch.float64)
    now, reference = numbers[:, :2].clone().requires_grad_(), numbers[:, 2:]
    found = preference(now, reference, beta, smoothing)
    (grad,) = torch.autograd.grad(found.loss.sum(), now)
    torch.testing.assert_close(found.weight.detach(), -grad, atol=1e-12, rtol=1e-9)


def supervised(config: RunConfig, kind: Kind) -> Trainer[Any]:
    options = policy_options(config).for_given_answers()
    made = check(RunConfig, derived(config, kind, options))
    return build_trainer(made, None, answers_of(config, kind))


def config_of(checkpoints: dict[str, Path], screens: Path, out: Path, **over: Any) -> RunConfig:
    options = {"policy__max_new_tokens": 24, "policy__temperature": 0.5, "policy__top_p": 0.8}
    run = small_run(checkpoints["qwen2_5_vl"], screens, out, "run", **{**options, **over})
    return check(RunConfig, run)


def test_right_answers_grow_likelier(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    over = {"sft__num_steps": 6, "sft__batch_size": 4, "sft__optim__lr": 3e-3}
    trainer = supervised(config_of(checkpoints, screens, tmp_path, **over), "sft")
    assert trainer.config.name == "run-sft"
    assert trainer.policy.module.sampling.temperature == 1.0, "of the model's own distribution"
    losses = []
    for _ in range(6):
        metrics = trainer.train_step()
        losses.append(metrics["update/loss"])
        assert metrics["rollout/hit"] == 1.0, "the task's own answers are hits"
        assert metrics["update/ratio"] == 1.0
    assert losses[-1] < 0.8 * losses[0]
    assert losses[0] == pytest.approx(math.log(700), rel=0.2), "a random model's, per token"
    trainer.save()
    again = build_trainer(trainer.config, "auto", answers_of(trainer.config, "sft"))
    assert again.step == 6


def test_better_answers_win(checkpoints: dict[str, Path], screens: Path, tmp_path: Path) -> None:
    run = config_of(
        checkpoints, screens, tmp_path, log__rollouts_every=1, log__num_rollout_groups=4
    )
    first = build_trainer(run, None)
    for _ in range(3):
        first.train_step()
    found = list(recorded_pairs(tmp_path / "run", 0.1))
    assert found
    assert all(better != worse for _, (better, worse) in found)
    over = {"dpo__pairs": str(tmp_path / "run"), "dpo__num_steps": 6, "dpo__batch_size": 4}
    over["policy__max_new_tokens"] = 80  # a random model's texts are longer when read again
    config = config_of(checkpoints, screens, tmp_path, **over, dpo__optim__lr=1e-3)
    trainer = supervised(config, "dpo")
    metrics = [trainer.train_step() for _ in range(6)]
    assert metrics[0]["dpo/margin"] == pytest.approx(0.0, abs=1e-5)
    assert metrics[0]["dpo/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics[-1]["dpo/margin"] > 0.05
    assert metrics[-1]["dpo/accuracy"] > 0.7


GROUP: dict[str, Any] = {
    "step": 1,
    "sample": "s",
    "prompt": ["?"],
    "answers": [
        {"output": text, "reward": reward, "parts": {}, "advantage": 0.0, "finish": finish}
        for text, reward, finish in (("a", 1.0, "stop"), ("b", 0.0, "length"), ("c", None, "stop"))
    ],
}


def changed(**fields: object) -> dict[str, object]:
    """The group, its first answer with other fields; those of ... are not there."""
    first = {key: one for key, one in {**GROUP["answers"][0], **fields}.items() if one is not ...}
    return {**GROUP, "answers": [first, *GROUP["answers"][1:]]}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({}, "lacks answers, sample, step"),
        ([], "lacks step, sample, answers"),
        ({**GROUP, "answers": {}}, "field 'answers' must be a list, not {}"),
        ({**GROUP, "sample": 3}, "field 'sample' must be a str, not 3"),
        ({**GROUP, "answers": [5]}, "answer 0: a row is a JSON object, not int"),
        (changed(finish=...), "answer 0: field 'finish' is missing"),
        (changed(output=...), "answer 0: field 'output' is missing"),
        (changed(finish="over"), "answer 0: field 'finish' must be one of"),
        (changed(reward="x"), "answer 0: field 'reward' must be a number, not 'x'"),
        (changed(advantage=None), "answer 0: field 'advantage' must be a number, not None"),
        (changed(parts=[1]), "answer 0: field 'parts' must map names to numbers, not [1]"),
    ],
)
def test_a_group_file_that_no_run_writes_is_told_and_left_out(
    record: object, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By training on preferences and by reports alike."""
    folder = tmp_path / "rollouts/step-000001"
    folder.mkdir(parents=True)
    for number, one in enumerate((GROUP, record)):
        (folder / f"group-{number}.json").write_text(json.dumps(one))
    found = list(recorded_pairs(tmp_path, 0.1))
    assert found == [("s", ("a", "b"))]
    assert isinstance(found[0][1][1], Unfinished)
    assert f"{folder / 'group-1.json'}" in caplog.text
    assert told in caplog.text
    (tmp_path / "metrics.jsonl").write_text("")
    assert "step 1: ?" in groups(Run(tmp_path, []))


def test_sources_of_answers(screens: Path, tmp_path: Path) -> None:
    options = GuiGrounding.Options(data={"train": {"path": str(screens)}}, prompt="{instruction}")
    task = GuiGrounding(options)
    samples = list(task.samples("train"))
    assert len(right_answers(SftConfig(), task, samples).by_id) == len(samples)
    column = right_answers(SftConfig(answers="column:instruction"), task, samples)
    assert column.by_id[samples[0].id] == [(samples[0].columns["instruction"],)]
    file = tmp_path / "answers.jsonl"
    rows = [{"id": samples[0].id, "output": "a"}, {"id": samples[0].id, "output": "b"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert right_answers(SftConfig(answers=str(file)), task, samples).by_id == {
        samples[0].id: [("a",), ("b",)]
    }
    file.write_text(json.dumps({"id": samples[1].id, "chosen": "a", "rejected": "b"}))
    assert pairs(DpoConfig(pairs=str(file)), samples).by_id == {samples[1].id: [("a", "b")]}


@pytest.mark.parametrize(
    ("source", "row", "message"),
    [
        ("column:nothing", None, r"sft\.answers: column:nothing: the data has no column"),
        ("nowhere.jsonl", None, r"sft\.answers: no file nowhere\.jsonl"),
        (None, {"id": "stranger", "output": "a"}, r"none of the \d+ training samples"),
        (None, {"id": "s0"}, r"row 1, field 'output': must be text, not None"),
        (None, ["s0"], r"row 1: must be a mapping"),
    ],
)
def test_answers_that_are_not_there(
    source: str | None, row: Any, message: str, screens: Path, tmp_path: Path
) -> None:
    options = GuiGrounding.Options(data={"train": {"path": str(screens)}}, prompt="{instruction}")
    task = GuiGrounding(options)
    if source is None:
        source = str(tmp_path / "answers.jsonl")
        Path(source).write_text(json.dumps(row))
    with pytest.raises((ConfigError, DataError), match=message):
        right_answers(SftConfig(answers=source), task, list(task.samples("train")))


def test_what_cannot_be_learnt_from(
    checkpoints: dict[str, Path], screens: Path, tmp_path: Path
) -> None:
    policy = make_policy(checkpoints["qwen2_5_vl"])
    with pytest.raises(DataError, match=r"has \d+ tokens, and policy.max_new_tokens is 7"):
        policy.given(problems(screens, 1), [["a longer answer than that, by far"]])
    with pytest.raises(DataError, match="must be text, not 5"):
        policy.given(problems(screens, 1), [[5]])
    with pytest.raises(ConfigError, match="name a run's folder"):
        pairs(DpoConfig(), [])
    with pytest.raises(DataError, match="no recorded group whose rewards differ"):
        pairs(DpoConfig(pairs=str(tmp_path)), problems(screens, 1))
    with pytest.raises(ValueError, match="group_size: must be 2 or more under advantage"):
        AlgoConfig(group_size=1)
    config = config_of(checkpoints, screens, tmp_path)
    made = check(RunConfig, derived(config, "sft", policy_options(config).for_given_answers()))
    assert read_parts(made).config.algo.group_size == 1
