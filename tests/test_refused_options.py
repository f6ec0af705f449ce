"""What would end in a traceback, do nothing, or name nothing is refused by `--dry-run`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError

from vlrl.cli.main import main
from vlrl.config.complaints import models_in
from vlrl.config.resolve import check, load_run_config
from vlrl.config.schema import RunConfig
from vlrl.config.section import MAX_WHOLE, Section, holds_numbers
from vlrl.config.supervised import DpoConfig, SftConfig
from vlrl.errors import ConfigError
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.functions import spec_of
from vlrl.reward.tree import build_reward

ROOT = Path(__file__).parents[1]
TINY = ROOT / "configs/gui_grounding/tiny.yaml"
JUDGE = ROOT / "configs/judge/tiny_judge.yaml"
HUGE = "9" * 23


@pytest.mark.parametrize(
    ("override", "key"),
    [
        # Numbers that a library refuses later, or computes 0 and infinity with.
        (f"seed={HUGE}", "seed"),
        (f"num_steps={HUGE}", "num_steps"),
        (f"policy.max_new_tokens={HUGE}", "max_new_tokens"),
        (f"policy.lora={{rank: {HUGE}}}", "lora.rank"),
        (f"policy.lora={{alpha: {HUGE}}}", "lora.alpha"),
        (f"task.data.train.limit={HUGE}", "data.train.limit"),
        ("algo.group_size=1000000000", "algo.group_size"),
        ("algo.num_prompts=1000000000", "algo.num_prompts"),
        ("eval.num_bootstrap=1000000000", "eval.num_bootstrap"),
        ("dist.num_threads=1000000000", "dist.num_threads"),
        ("policy.temperature=1e-320", "temperature"),
        ("policy.temperature=1e300", "temperature"),
        ("policy.top_p=1e-320", "top_p"),
        ("optim.lr=1e-310", "optim.lr"),
        ("optim.weight_decay=1e300", "optim.weight_decay"),
        ("reward={use: gaussian_point, alpha: 1e-320}", "alpha"),
        ("reward={use: gaussian_point, alpha: .inf}", "alpha"),
        ("reward={use: gaussian_point, alpha: true}", "alpha"),
        (f"reward={{sum: [{{use: box_iou, weight: {HUGE * 20}}}]}}", "weight"),
        ("reward={sum: [{use: box_iou, weight: 1e308}, {use: box_hit, weight: 1e308}]}", "weight"),
        # Patterns.
        ("policy.lora={target_modules: '('}", "lora.target_modules"),
        ("policy.lora={target_modules: ''}", "lora.target_modules"),
        ("policy.lora={target_modules: []}", "lora.target_modules"),
        # What is named is not there, or is something else.
        ("policy.model=/dev/null", "policy.model"),
        (f"policy.model={ROOT / 'README.md'}", "policy.model"),
        (f"policy.model={ROOT / 'docs'}", "policy.model"),
        ("policy.model=/nowhere/model", "policy.model"),
        ("policy.model=~nobody/model", "policy.model"),
        ("policy.model=''", "policy.model"),
        ("dist.deepspeed=/etc/passwd", "dist.deepspeed"),
        ("dist.deepspeed=/nowhere.json", "dist.deepspeed"),
        ("dist.deepspeed=''", "dist.deepspeed"),
        ("task.data={}", "task.data"),
        ("task.data.train=[]", "task.data.train"),
        ("train_split=trian", "train_split"),
        ("eval.splits=[validation]", "eval.splits"),
        ("out=''", "out"),
        (f"out={ROOT / 'README.md'}", "out"),
        ("out=/dev/null/runs", "out"),
        # What would do nothing.
        ("algo={population_std: true, advantage: group_centre}", "algo.population_std"),
        ("algo.nft.beta=2", "algo.nft"),
        ("algo.constant_length=7", "algo.constant_length"),
    ],
)
def test_a_dry_run_refuses_it_and_names_the_key(
    override: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", str(TINY), "--dry-run", override]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert key in printed.err


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"seed={HUGE}", "seed"),
        ("model=/dev/null", "model"),
        ("dist.deepspeed=/etc/passwd", "dist.deepspeed"),
        ("out=''", "out"),
        ("lora={target_modules: '('}", "lora.target_modules"),
    ],
)
def test_so_does_that_of_a_judge(
    override: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-judge", "--config", str(JUDGE), "--dry-run", override]) == 2
    assert key in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    [
        f"seed={MAX_WHOLE}",
        "policy.model=some/name",
        "policy.model=runs/not_yet/model",
        "policy.lora={target_modules: [q_proj]}",
        "algo={population_std: true, advantage: group_zscore}",
        "optim.lr=1e-12",
        "out=runs/not/yet",
        "reward={sum: [{use: box_iou, weight: 1e6}, {use: box_hit, weight: 0}]}",
    ],
)
def test_what_can_be_meant_passes(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(TINY), "--dry-run", override]) == 0, capsys.readouterr()


@pytest.mark.parametrize("content", ["[]", "{", '{"zero_optimization": 5}',
    '{"zero_optimization": {"stage": 9}}', '{"zero_optimization": {"stage": "two"}}',
    '{"optimizer": {}}'])  # fmt: skip
def test_a_sharding_file_is_read_by_the_dry_run(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "zero.json"
    path.write_text(content)
    words = ["train", "--config", str(TINY), "--dry-run", f"dist.deepspeed={path}"]
    assert main(words) == 2
    assert f"dist.deepspeed: {path}: " in capsys.readouterr().err


def test_a_sum_whose_range_overflows_is_refused() -> None:
    node: object = {"use": "box_iou", "weight": 1e30}
    for _ in range(11):
        node = {"sum": [node], "weight": 1e30}
    with pytest.raises(ConfigError, match=r"reward\.sum.*overflows; make the weights smaller"):
        build_reward({"sum": [node]})


def test_sizes_hold_in_lists_and_for_any_section() -> None:
    class Options(Section):
        sizes: tuple[int, ...] = ()
        share: float = 0.5

    assert Options(sizes=(0, -MAX_WHOLE), share=0.0).share == 0.0
    with pytest.raises(ValueError, match=f"must be at most {MAX_WHOLE} in size"):
        Options(sizes=(1, 10**400))
    with pytest.raises(ValueError, match=r"must be 0 or from 1e-30 to 1e\+30 in size, not -1e-31"):
        Options(share=-1e-31)


def numbers_of(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, str]]:
    """Fields that take numbers other than whole ones, of a model and those inside it."""
    for name, field in model.model_fields.items():
        if holds_numbers(field.annotation) and "float" in str(field.annotation):
            yield model, name, field.alias or name
        for inner in models_in(field.annotation):
            yield from numbers_of(inner)


def options_of_rewards() -> list[type[BaseModel]]:
    """Those of all rewards, combinators and kinds that vlrl has."""
    parts = [
        resolve(section, name)
        for section in ("reward", "combinator", "shape", "novelty")
        for name in REGISTRY[section]
    ]
    return [part.Options if inspect.isclass(part) else spec_of(part).options for part in parts]


OPEN = {
    ("BoundsOptions", "low"),
    ("BoundsOptions", "high"),
    ("LengthPenaltyOptions", "most"),
    ("RemoteOptions", "range"),
}
"""Ends of intervals, which may be open."""


def test_numbers_are_finite_but_for_ends_of_intervals() -> None:
    """In every section of a config and in the options of every reward."""
    found = {
        (model.__name__, name): (model, key)
        for top in (RunConfig, SftConfig, DpoConfig, *options_of_rewards())
        for model, name, key in numbers_of(top)
    }
    assert len(found) > 60
    assert found.keys() >= OPEN
    for (owner, name), (model, key) in found.items():
        for number in (math.inf, -math.inf, math.nan):
            told = []
            for value in (number, [0.0, number], {"a": number}, {"a": {"b": number}}):
                with pytest.raises(ValidationError) as error:
                    model.model_validate({key: value, "no such key": 0})
                told += [one for one in error.value.errors() if one["loc"] and one["loc"][0] == key]
            refused = any(one["type"] == "finite_number" for one in told)
            assert refused == ((owner, name) not in OPEN), (owner, name, number)


BOX = {"use": "box_hit"}
TWO = {"a": BOX, "b": {"use": "box_iou"}}


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            {"shape": {"of": BOX, "kind": "tanh", "slope": math.inf}},
            "shape.slope: must be a finite",
        ),
        (
            {"shape": {"of": BOX, "kind": "length_penalty", "most": math.nan}},
            "shape.most: must be above 0, not nan",
        ),
        (
            {"clip": {"of": BOX, "low": math.nan}},
            "clip.low: must be a number, or an infinity where there is no limit, not nan",
        ),
        (
            {"use": "remote", "timeout_s": math.inf},
            "'remote', option 'timeout_s': must be a finite",
        ),
        (
            {"use": "remote", "range": [0, math.nan]},
            "option 'range.1': must be a number, or an inf",
        ),
        ({"use": "remote", "range": [0]}, "'remote', option 'range': entry 1 is missing"),
        ({"use": "remote", "range": 5}, "'remote', option 'range': must be a list, not 5"),
        # Of several types: neither their names in the place, nor what the other types say.
        (
            {"hierarchy": {"factors": TWO, "margins": "x"}},
            "reward.hierarchy.margins: must be a number or a mapping, not 'x'",
        ),
        (
            {"hierarchy": {"factors": TWO, "margins": -1}},
            "reward.hierarchy.margins: must be at least 0, not -1",
        ),
        (
            {"hierarchy": {"factors": TWO, "margins": {"a": -1}}},
            "reward.hierarchy.margins.a: must be at least 0, not -1",
        ),
        (
            {"hierarchy": {"factors": TWO, "margins": {"a": True}}},
            "reward.hierarchy.margins: a: must be a number, not true",
        ),
        (
            {"hierarchy": {"factors": {"a": BOX}}},
            "reward.hierarchy.factors: must have 2 or more entries, not 1",
        ),
        (
            {"hierarchy": {"factors": {"a": BOX, "b": 3}}},
            "reward.hierarchy.factors.b: must be a mapping, not 3",
        ),
        (
            {"difficulty": {"of": BOX, "weights": {"map": {"hard": 1e300}}}},
            "reward.difficulty.weights: map.hard: must be 0 or from 1e-30 to 1e+30 in size, not",
        ),
        ({"sum": [BOX, 3]}, "reward.sum[1]: must be a mapping, not 3"),
        # Of the node that has it, not of the list that the node is in.
        (
            {"sum": [BOX, {"use": "gaussian_point", "alpha": 1e-40}]},
            "reward.sum[1]: 'gaussian_point', option 'alpha': must be 0 or from 1e-30 to 1e+30 in",
        ),
    ],
)
def test_a_wrong_option_of_a_reward_has_one_complaint(node: object, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_reward(node)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "curriculum=[{name: a, keep: {type: [{b: 1}]}}]",
            "curriculum.0.keep.type.0: must be a text, true or false or a number, not {'b': 1}",
        ),
        ("optim.betas=3", "optim.betas: must be a list, not 3"),
        ("metrics=3", "metrics: must be a mapping, not 3"),
        ("seed=1.5", "seed: must be a whole number, not 1.5"),
        ("algo.kl_beta=.inf", "algo.kl_beta: must be a finite number, not inf"),
        ("seed=true", "seed: must be a number, not true"),
    ],
)
def test_a_wrong_value_of_a_config_has_one_complaint(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_run_config([TINY], [override])
    assert str(error.value) == told


def test_the_type_that_a_value_has_is_the_one_that_is_complained_of() -> None:
    """Of a list of texts or a text: what is in the list; keys of mappings are no names of types."""

    class Options(Section):
        names: tuple[str, ...] | str | None = None
        by_name: dict[str, float | dict[str, float]] = Field(default_factory=dict)

    for data, told in (
        ({"names": 3}, "names: must be a list or a text, not 3"),
        ({"names": ["a", 1]}, "names.1: must be a text, not 1"),
        ({"by_name": {"str": "x"}}, "by_name.str: must be a number or a mapping, not 'x'"),
        ({"by_name": {"a": {"b": [1]}}}, "by_name.a.b: must be a number, not [1]"),
    ):
        with pytest.raises(ConfigError) as error:
            check(Options, data)
        assert str(error.value) == told
