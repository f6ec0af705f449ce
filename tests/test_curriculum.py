"""Stages of a run: what they keep, in which order they draw it, when they end, what they save."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_runs import ROOT

from vlrl.algo.learnability import shares
from vlrl.build import build_task, read_parts
from vlrl.cli.main import main
from vlrl.config.curriculum import ExitConfig, SamplerConfig, StageConfig
from vlrl.config.loader import apply_override, compose
from vlrl.config.resolve import check, plain
from vlrl.config.schema import RunConfig
from vlrl.distributed.comm import World
from vlrl.errors import CheckpointError, ConfigError, DataError
from vlrl.log.report.curves import curves
from vlrl.protocols import Task
from vlrl.train.curriculum.curriculum import Curriculum
from vlrl.train.curriculum.exits import Exit, ExitState
from vlrl.train.curriculum.fields import fields_of, kept
from vlrl.train.curriculum.names import check_seen
from vlrl.train.curriculum.samplers import AdaptiveSampler, sampler_of
from vlrl.train.curriculum.state import CurriculumState
from vlrl.train.learners import learners, learning
from vlrl.train.sampler import PromptSampler
from vlrl.types import Finish, Rollout, Sample, Score

ALONE = World(0, 1, torch.device("cpu"))


def unbounded(rollout: Rollout) -> float:
    """A reward of which nobody knows what success is."""
    return float(len(str(rollout.output)))


STAGES: list[dict[str, Any]] = [
    {"name": "yes_no", "keep": {"type": "yes_no"}, "exit": {"steps": 2}},
    {
        "name": "counting",
        "keep": {"type": ["counting", "yes_no"], "transfers": {"at_most": 0}},
        "sampler": {"kind": "adaptive", "success": "right"},
        "exit": {"metric": {"name": "reward/mean", "at_least": 0.5, "over": 2}, "steps": 5},
    },
    {
        "name": "planning",
        "keep": {"type": "planning"},
        "sampler": {"kind": "by_field", "field": "map", "order": ["easy", "middle", "hard"]},
        "reward": {"use": "format"},
        "algo": {"clip": {"high": 0.3}, "advantage": "group_zscore"},
    },
]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def config_of(*overrides: str, stages: list[dict[str, Any]] | None = None) -> RunConfig:
    data = compose(["visual_reasoning/tiny"], ["num_steps=20"])
    data["curriculum"] = STAGES if stages is None else stages
    for assignment in overrides:
        apply_override(data, assignment)
    return check(RunConfig, data)


def curriculum_of(config: RunConfig) -> Curriculum:
    parts = read_parts(config)
    task = build_task(parts.config)
    return Curriculum(parts.stages, task.samples("train"), task, "train", config.seed)


@pytest.fixture(scope="module")
def maps() -> tuple[Task, list[Sample]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        task = build_task(read_parts(config_of()).config)
        return task, list(task.samples("train"))


def fields(maps: tuple[Task, list[Sample]]) -> list[Any]:
    task, samples = maps
    return [fields_of(task, sample) for sample in samples]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("curriculum.1.name=yes_no", "curriculum.1.name: 'yes_no' is the name of an earlier"),
        ("curriculum.0.exit=null", "curriculum.0.exit: must say when stage 'yes_no' ends"),
        ("curriculum.0.exit={}", "curriculum.0.exit: must have steps, metric or plateau"),
        ("curriculum.2.exit={steps: 2}", "curriculum.2.exit: the last stage runs to the end"),
        ("curriculum.0.exit={steps: 20}", "so stage 'counting' would never begin"),
        (
            "curriculum.0.exit={plateau: {metric: reward/mean, patience: 30}}",
            "take 31 steps",
        ),
        ("curriculum.0.exit.metric={name: reward/mean}", "either at_least or at_most"),
        ("curriculum.0.exit.metric={name: right, at_least: 1}", "must be a metric as in metrics"),
        ("curriculum.0.exit.metric={name: canary/x, at_least: 1}", "no name under health.canar"),
        ("curriculum.0.keep={type: null}", "curriculum.0.keep: type: must be a value, a list"),
        ("curriculum.0.keep={type: []}", "curriculum.0.keep: type: must name a value"),
        ("curriculum.0.keep={map: {at_least: 2, at_most: 1}}", r"at_least \(2\) is above at_most"),
        ("curriculum.0.keep={map: {at_mots: 1}}", "keep.map.at_mots'; did you mean 'at_most'"),
        ("curriculum.1.sampler=shufled", "curriculum.1.sampler.kind: 'shufled'; did you mean"),
        ("curriculum.1.sampler={floor: 0.2}", "floor: no effect under kind: shuffled"),
        ("curriculum.1.sampler={kind: adaptive, flor: 1}", "did you mean 'floor'"),
        ("curriculum.1.sampler={kind: by_field}", "needs `field:`"),
        ("curriculum.2.sampler.descending=true", "descending: no effect beside `order`"),
        ("curriculum.1.algo={group_size: 8}", "curriculum.1.algo.group_size: cannot change in the"),
        ("curriculum.1.algo={num_epochs: 2}", "curriculum.1.algo.num_epochs: cannot change"),
        ("curriculum.1.algo={grup_size: 8}", "'curriculum.1.algo.grup_size'; did you mean"),
        ("curriculum.1.algo={clip: {hihg: 1}}", "curriculum.1: unknown key 'algo.clip.hihg'"),
        ("curriculum.1.algo={objective: nft}", "curriculum.1.algo.objective: cannot change from"),
        ("curriculum.1.algo={kl_beta: 0.1}", "curriculum.1.algo.kl_beta: must be 0 where"),
        ("curriculum.1.algo={advantage: gdpo}", "curriculum.1: algo.advantage: gdpo"),
        ("curriculum.1.algo={resample_rounds: 1}", "curriculum.1: algo.resample_rounds needs"),
        ("curriculum.1.reward={use: gausian}", "curriculum.1.reward: unknown reward 'gausian'"),
        ("curriculum.1.reward={use: box_iou}", "curriculum.1.reward: needs box, but task"),
    ],
)
def test_stages_that_cannot_be_are_refused_with_their_place(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_parts(config_of(override))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("curriculum.0.keep={tipe: yes_no}", "no sample has a field 'tipe'; did you mean 'type'"),
        ("curriculum.0.keep={type: yesno}", "'yes_no' 24, 'counting' 24, 'planning' 24"),
        ("curriculum.0.keep={map: {at_most: 2}}", "sample 'train-00/0' has 'easy'; name values"),
        ("curriculum.2.sampler.order=[easy]", "curriculum.2.sampler.order: must have every value"),
        ("curriculum.2.sampler.field=mpa", "curriculum.2.sampler.field: no sample has a field"),
        ("curriculum.1.sampler.success=rihgt", "curriculum.1.sampler.success: 'rihgt' is neither"),
        ("curriculum.0.exit.metric={name: rollout/rihgt, at_least: 1}", "mean 'rollout/right'"),
    ],
)
def test_what_only_the_data_can_refuse(
    override: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Before any weight is loaded, and in a dry run."""
    with pytest.raises(ConfigError, match=told):
        curriculum_of(config_of(override))
    file = tmp_path / "run.yaml"
    from vlrl.config.loader import to_yaml

    file.write_text(to_yaml(plain(config_of(override))), encoding="utf-8")
    assert main(["train", "--config", str(file), "--dry-run"]) == 2
    assert told.split("'")[0] in capsys.readouterr().err


def test_a_dry_run_counts_the_samples_of_every_stage_and_can_be_run_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from vlrl.config.loader import to_yaml

    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(plain(config_of())), encoding="utf-8")
    assert main(["train", "--config", str(file), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-4:] == [
        "# curriculum: 3 stages on the 72 samples of 'train'",
        "#   yes_no: shuffled, until 2 steps; 24 samples",
        "#   counting: adaptive, until 5 steps or reward/mean >= 0.5 over 2 steps; 48 samples",
        "#   planning: by_field, to the end; its own reward and algo; 24 samples",
    ]
    file.write_text(printed, encoding="utf-8")
    again = check(RunConfig, compose([file]))
    assert again.curriculum == config_of().curriculum
    away = ["task.data.train.path=nowhere.jsonl", "--dry-run"]
    assert main(["train", "--config", str(file), *away]) == 0
    assert "# curriculum: the samples of 'train' cannot be counted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keep", "number"),
    [
        ({}, 72),
        ({"map": "easy"}, 24),
        ({"map": ["easy", "hard"], "type": "planning"}, 16),
        ({"transfers": 0}, 60),
        ({"transfers": {"at_least": 1}}, 12),
        ({"transfers": {"at_least": 1, "at_most": 1}, "map": "easy"}, 3),
        # Only planning has it: what lacks a field is not kept.
        ({"num_transfers": {"at_least": 0}}, 24),
        ({"answer": "yes"}, None),
        ({"id": ["train-00/0", "train-01/3"]}, 2),
    ],
)
def test_a_filter_keeps_what_has_all_of_it(maps: Any, keep: Any, number: int | None) -> None:
    stage = StageConfig(name="one", keep=keep)
    found = kept(stage, "curriculum.0", fields(maps), "train")
    assert found == sorted(found)
    if number is None:
        number = sum(sample.columns.get("answer") == "yes" for sample in maps[1])
    assert len(found) == number > 0


def test_a_filter_reads_numbers_in_text_lists_and_truth_values() -> None:
    rows = [
        {"id": "a", "level": "1.5", "tags": ["x", "y"], "seen": True},
        {"id": "b", "level": 3, "tags": ["z"], "seen": False},
        {"id": "c", "level": "2", "tags": "x"},
    ]

    def ids(**keep: Any) -> list[str]:
        found = kept(StageConfig(name="one", keep=keep), "curriculum.0", rows, "train")
        return [str(rows[i]["id"]) for i in found]

    assert ids(level={"at_most": 2}) == ["a", "c"]
    assert ids(tags="x") == ["a", "c"]
    assert ids(seen="true") == ids(seen=True) == ["a"]
    assert ids(level=["3"]) == ids(level=3) == ["b"]


def test_orders(maps: Any) -> None:
    rows = fields(maps)
    places = list(range(0, 72, 2))
    in_order = sampler_of(SamplerConfig(kind="in_order"), places, rows, "0", "")
    assert in_order.take(40) == places + places[:4]
    options = SamplerConfig(kind="by_field", field="map", order=("hard", "easy", "middle"))
    by_map = sampler_of(options, places, rows, "0", "")
    first, second = by_map.take(36), by_map.take(36)
    assert sorted(first) == places
    assert [rows[i]["map"] for i in first] == ["hard"] * 12 + ["easy"] * 12 + ["middle"] * 12
    assert first != second, "equal values are shuffled anew"
    numbers = SamplerConfig(kind="by_field", field="transfers", descending=True)
    falling = [rows[i]["transfers"] for i in sampler_of(numbers, range(72), rows, "0", "").take(72)]
    assert falling == sorted(falling, reverse=True)
    shuffled = sampler_of(SamplerConfig(), places, rows, "0/one", "")
    assert shuffled.take(36) == PromptSampler(places, "0/one").take(36)


def test_shares_are_p_times_1_minus_p_above_a_floor() -> None:
    success = np.array([0.0, 1.0, 0.5, 0.1])
    # 0.25 and 0.09 of 0.34, times 0.8; 0.05 each.
    wanted = [0.05, 0.05, 0.8 * 0.25 / 0.34 + 0.05, 0.8 * 0.09 / 0.34 + 0.05]
    assert shares(success, 0.2) == pytest.approx(wanted)
    assert shares(success, 0.0)[0] == 0.0
    assert shares(np.array([0.0, 1.0]), 0.0) == pytest.approx([0.5, 0.5])
    assert shares(success, 1.0) == pytest.approx([0.25] * 4)


def test_the_adaptive_sampler_draws_by_its_shares_without_putting_back() -> None:
    options = SamplerConfig(kind="adaptive", floor=0.2, rate=1.0)
    sampler = AdaptiveSampler([3, 5, 7, 9], options, "seed")
    sampler.learn({3: 0.0, 5: 1.0, 7: 0.5, 9: 0.1})
    num = 4000
    counts = Counter(sampler.take(1)[0] for _ in range(num))
    for place, share in zip([3, 5, 7, 9], shares(np.array([0, 1, 0.5, 0.1]), 0.2), strict=True):
        assert counts[place] / num == pytest.approx(share, abs=4 * math.sqrt(share / num))
    assert sampler.position == num
    assert sorted(sampler.take(4)) == [3, 5, 7, 9]
    assert sorted(sampler.take(6)[:4]) == [3, 5, 7, 9]
    assert sampler.position == num + 10
    again = AdaptiveSampler([3, 5, 7, 9], options, "seed")
    again.success, again.position = dict(sampler.success), num
    sampler.position = num
    assert again.peek(4) == sampler.take(4) == again.take(4)
    sampler.left_out |= {3, 5, 7}
    assert sampler.take(2) == [9, 9]
    sampler.left_out.add(9)
    with pytest.raises(DataError, match="none of the 4 samples"):
        sampler.take(1)


def test_a_running_mean_begins_at_the_first_group_and_unseen_prompts_come_first() -> None:
    sampler = AdaptiveSampler([0, 1, 2], SamplerConfig(kind="adaptive", floor=0.0, rate=0.5), "s")
    sampler.learn({0: 1.0, 1: 0.0})
    assert sampler.take(1) == [2]
    sampler.learn({0: 0.0})
    assert sampler.success == {0: 0.5, 1: 0.0}
    sampler.learn({0: 1.0, 2: 1.0})
    assert sampler.success == {0: 0.75, 1: 0.0, 2: 1.0}


def ends_after(rule: dict[str, Any], values: Sequence[float | None]) -> int | None:
    """The step after which a stage ends, from 1."""
    state = ExitState()
    for number, value in enumerate(values, start=1):
        # Saved and read after every step.
        one = Exit(ExitConfig(**rule), ExitState.model_validate_json(state.model_dump_json()))
        one.see({} if value is None else {"m/x": value})
        state = one.state
        if one.reason():
            return number
    return None


@pytest.mark.parametrize(
    ("rule", "values", "step"),
    [
        ({"steps": 3}, [0.0] * 5, 3),
        ({"metric": {"name": "m/x", "at_least": 0.5}}, [0.1, 0.5, 0.9], 2),
        ({"metric": {"name": "m/x", "at_most": 0.5}}, [0.9, 0.6, 0.5], 3),
        # Means of two: 0.25, 0.4, 0.55.
        ({"metric": {"name": "m/x", "at_least": 0.5, "over": 2}}, [0.5, 0.0, 0.8, 0.3], 4),
        ({"metric": {"name": "m/x", "at_least": 0.5, "over": 2}}, [0.9, None, 0.2, 0.2], 3),
        ({"metric": {"name": "m/x", "at_least": 0.5}}, [math.nan, math.inf, 0.1], None),
        ({"metric": {"name": "m/x", "at_least": 9.0}, "steps": 2}, [0.0] * 5, 2),
        ({"plateau": {"metric": "m/x", "patience": 2}}, [0.1, 0.2, 0.2, 0.1], 4),
        ({"plateau": {"metric": "m/x", "patience": 2}}, [0.1, 0.1, 0.2, 0.1, None, 0.2], 6),
        # A gain of 0.04 on the best is none; two of them are one.
        (
            {"plateau": {"metric": "m/x", "patience": 2, "min_gain": 0.05}},
            [0.1, 0.14, 0.18, 0.2, 0.2],
            5,
        ),
        (
            {"plateau": {"metric": "m/x", "patience": 2, "lower_is_better": True}},
            [0.5, 0.4, 0.45, 0.4],
            4,
        ),
        # Means of two: 0.1, 0.2, 0.2, 0.2.
        ({"plateau": {"metric": "m/x", "patience": 2, "over": 2}}, [0, 0.2, 0.2, 0.2, 0.2], 5),
    ],
)
def test_when_a_stage_ends(
    rule: dict[str, Any], values: Sequence[float | None], step: int | None
) -> None:
    assert ends_after(rule, values) == step
    if step is not None and None not in values:
        assert ExitConfig(**rule).min_steps <= step


def answered(curriculum: Curriculum, places: Sequence[int], samples: Sequence[Sample]) -> Any:
    """Two answers to each prompt, right or wrong by its place, as the trainer scores them."""
    rollouts = []
    for group, place in enumerate(places):
        for index in range(2):
            sample = samples[place]
            output = "yes" if (place + index) % 3 else "no idea"
            rollout = Rollout(sample, group, index, output, Finish.STOP, 1, 0)
            rollout.parsed = curriculum.task.parse(sample, output)
            rollout.score = Score(float(rollout.parsed is not None and rollout.parsed.correct))
            rollouts.append(rollout)
    return rollouts


def steps(curriculum: Curriculum, samples: Sequence[Sample], num: int) -> list[Any]:
    """What is drawn in `num` steps of four prompts, and the metrics of each."""
    found = []
    for step in range(num):
        places = curriculum.take(4)
        results = curriculum.results(answered(curriculum, places, samples))
        metrics = {"reward/mean": 0.1 * step}
        found.append((places, curriculum.end_step(results, metrics, ALONE)))
    return found


def test_stages_follow_each_other_and_a_resumed_run_equals_an_unbroken_one(maps: Any) -> None:
    samples = maps[1]
    whole = curriculum_of(config_of())
    found = steps(whole, samples, 12)
    numbers = [facts["curriculum/stage"] for _, facts in found]
    # The mean of two steps' metrics, 0.45 and 0.55: five steps come first.
    assert numbers == [1.0] * 2 + [2.0] * 5 + [3.0] * 5
    kinds = [{samples[i].columns["type"] for i in places} for places, _ in found]
    assert kinds[0] == {"yes_no"}
    assert kinds[-1] == {"planning"}
    assert [facts["curriculum/stage_steps"] for _, facts in found][:4] == [1, 2, 1, 2]
    assert found[3][1]["curriculum/prompts_tried"] >= 4
    assert whole.reward.name == "format"
    assert whole.algo.clip.high == 0.3
    for cut in range(1, 12):
        before = curriculum_of(config_of())
        steps(before, samples, cut)
        state = before.state()
        assert state is not None
        saved = CurriculumState.model_validate_json(state.model_dump_json())
        after = curriculum_of(config_of())
        after.load(saved, before.position, "step")
        for step in range(cut, 12):
            places = after.take(4)
            results = after.results(answered(after, places, samples))
            facts = after.end_step(results, {"reward/mean": 0.1 * step}, ALONE)
            assert (places, facts) == found[step], (cut, step)


def test_prompts_are_chosen_by_what_the_last_finished_step_knew(maps: Any) -> None:
    samples = maps[1]
    floor = "curriculum.1.sampler.floor=0"
    curriculum, fresh = curriculum_at(1, floor), curriculum_at(1, floor)
    curriculum.take(4)
    ahead = curriculum.take(4)  # the first step is not finished
    fresh.position = 4
    assert ahead == fresh.take(4)
    kept = curriculum._sampler.places
    success = {samples[i].id: [0.5 if n < 4 else 0.0] for n, i in enumerate(kept)}
    curriculum.end_step(success, {"reward/mean": 0.0}, ALONE)
    assert sorted(curriculum.take(4)) == kept[:4]


def curriculum_at(number: int, *overrides: str) -> Curriculum:
    """Fresh, in a later stage."""
    made = curriculum_of(config_of(*overrides))
    made.load(CurriculumState(stage=STAGES[number]["name"], start=0, exit=ExitState()), 0, "")
    return made


def test_ranks_join_their_results_to_the_last_bit(maps: Any) -> None:
    """However a sample's answers are divided over ranks, and in whatever order."""
    whole = curriculum_at(1)
    ids = [whole.ids[i] for i in whole.peek(3)]
    values = {ids[0]: [0.1, 0.7, 0.3], ids[1]: [1.0, 1 / 3], ids[2]: [0.2]}
    parts = [{ids[1]: [1 / 3], ids[0]: [0.3]}, {ids[2]: [0.2], ids[0]: [0.7, 0.1], ids[1]: [1.0]}]
    assert whole._joined([values]) == whole._joined(parts)


def test_success_of_the_reward_is_scaled_by_its_range_and_must_have_one(maps: Any) -> None:
    adaptive = "curriculum.1.sampler={kind: adaptive}"
    own = "curriculum.1.reward={shape: {kind: tanh, of: {use: answer_match}}}"
    curriculum = curriculum_at(1, adaptive, own)
    sample = maps[1][0]
    rollout = Rollout(sample, 0, 0, "yes", Finish.STOP, 1, 0)
    rollout.score = Score(0.5)
    assert curriculum.results([rollout]) == {sample.id: [0.75]}
    assert curriculum_at(0).results([rollout]) == {}
    rollout.score = Score(None)
    assert curriculum.results([rollout]) == {}
    endless = 'curriculum.1.reward={use: "test_curriculum:unbounded"}'
    with pytest.raises(ConfigError, match=r"curriculum.1.sampler.success: .*range \[-inf, inf\]"):
        read_parts(config_of(adaptive, endless))


def test_a_metric_that_no_step_has_is_an_error_after_the_first_one(maps: Any) -> None:
    rule = "curriculum.1.exit.metric.name=update/losss"
    curriculum = curriculum_of(config_of(rule))
    seen = {"update/loss": 0.1, "reward/mean": 0.3}
    with pytest.raises(ConfigError) as error:
        curriculum.end_step({}, seen, ALONE)
    told = str(error.value)
    assert "curriculum.1.exit.metric.name: a step has no metric 'update/losss'" in told
    assert "did you mean 'update/loss'" in told
    assert "reward/mean" in told
    # Its part of the first stage's reward may not apply to a step; a later reward's is not known.
    stages = curriculum_of(config_of("curriculum.0.exit.metric={name: reward/format, at_least: 2}"))
    check_seen(stages.stages, 0, list(seen), stages.task)


def test_a_state_of_another_curriculum(caplog: pytest.LogCaptureFixture) -> None:
    curriculum = curriculum_of(config_of())
    state = CurriculumState(stage="gone", start=0, exit=ExitState())
    with pytest.raises(CheckpointError, match="saved in stage 'gone', and `curriculum` has yes_no"):
        curriculum.load(state, 8, "step-000002")
    curriculum.load(None, 8, "step-000002")
    assert "without a curriculum, which begins now" in caplog.text
    assert curriculum.take(4) == curriculum_of(config_of()).take(4)
    assert curriculum.position == 12
    without = curriculum_of(config_of(stages=[]))
    without.load(curriculum.state(), 12, "step-000003")
    assert without.state() is None
    assert without.take(4) == PromptSampler(72, 0).take(16)[12:]


def test_rewards_of_all_stages_are_saved_and_those_of_this_one_learn() -> None:
    clip = {"shape": {"kind": "running_clip", "of": {"use": "answer_match"}}}
    own = {"shape": {"kind": "running_clip", "of": {"use": "format"}}}
    stages = [
        {"name": "a", "exit": {"steps": 1}},
        {"name": "b", "exit": {"steps": 1}, "reward": own},
        {"name": "c"},
    ]
    data = compose(["visual_reasoning/tiny"])
    parts = read_parts(check(RunConfig, {**data, "reward": clip, "curriculum": stages}))
    rewards = [stage.reward for stage in parts.stages]
    assert rewards[0] is rewards[2]
    found, _ = learners(rewards, parts.config.algo)
    assert found == [rewards[0], rewards[1]]
    assert learning(found, rewards[1]) == [rewards[1]]


def test_charts_show_where_stages_begin(maps: Any) -> None:
    rows = [
        {"step": step, "reward/mean": 0.1 * step, "curriculum/stage": 1 + (step > 2) + (step > 3)}
        for step in range(1, 6)
    ]
    page = str(curves(rows, type(maps[0])))
    marks = [float(x) for x in re.findall(r'<line x1="([0-9.]+)"[^>]*stroke-dasharray', page)]
    grid = re.search(r'<line x1="([0-9.]+)" x2="([0-9.]+)"', page)
    assert grid is not None
    left, right = float(grid[1]), float(grid[2])
    # Between steps 2 and 3, and 3 and 4, of 1 to 5.
    assert marks[:2] == pytest.approx([left + (right - left) * at for at in (3 / 8, 5 / 8)])
    same = [{**row, "curriculum/stage": 1.0} for row in rows]
    assert "stroke-dasharray" not in str(curves(same, type(maps[0])))
