"""The linter: twenty configs that will not do what they seem to, and every shipped one."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from vlrl.build import check_plugins
from vlrl.config.loader import compose
from vlrl.config.resolve import check
from vlrl.config.schema import AlgoConfig, RunConfig
from vlrl.config.shipped import shipped_files
from vlrl.errors import ConfigError
from vlrl.reward.lint.allowed import RULE_NAMES
from vlrl.reward.lint.rules import RULES, lint
from vlrl.reward.tree import build_reward

IOU = {"use": "box_iou"}
HIT = {"use": "box_hit"}
JUDGE = {"use": "remote", "url": "http://127.0.0.1:1", "reward": "judge"}
UNBOUNDED = {"use": "test_shape_node:unbounded"}
FACTORS = {"hit": HIT, "size": IOU}
GDPO = {"advantage": "gdpo"}
CENTRE = {"advantage": "group_centre"}


def shape(kind: str, of: Any = IOU, **options: Any) -> dict[str, Any]:
    return {"shape": {"kind": kind, "of": of, **options}}


def best_view(of: str = "clip_score") -> dict[str, Any]:
    return {"views": {"pool": "max", "of": {"use": of}}}


OF_PROMPT = {"references": {"from": "policy"}}

WRONG: list[tuple[str, str, Any, dict[str, Any]]] = [
    # rule, the place that it names, reward, algo
    ("affine_shaper", "reward", shape("running_zscore"), {}),
    ("affine_shaper", "reward", shape("running_minmax"), {"advantage": "batch_std"}),
    ("affine_shaper", "reward", shape("centred"), {}),
    ("affine_shaper", "reward", shape("centred", **OF_PROMPT), CENTRE),
    ("affine_shaper", "reward.sum[1]", {"sum": [HIT, shape("centred", **OF_PROMPT)]}, {}),
    ("affine_shaper", "reward.sum[0]", {"sum": [shape("unit"), HIT]}, GDPO),
    (
        "affine_shaper",
        "reward.stages.coarse",
        {"stages": {"coarse": shape("unit", {"use": "voxel_iou"}), "fine": {"use": "voxel_iou"}}},
        {},
    ),
    ("tiny_epsilon", "reward", shape("par"), {"advantage_eps": 1e-8}),
    ("tiny_epsilon", "reward.sum[0]", {"sum": [shape("tanh"), HIT]}, {"advantage_eps": 1e-7}),
    ("tiny_epsilon", "reward.sum[0]", {"sum": [shape("arctan"), HIT]},
     {**GDPO, "advantage_eps": 1e-9}),
    ("lucky_view", "reward", best_view(), {}),
    ("lucky_view", "reward.sum[0]", {"sum": [best_view(), {"use": "part_counts"}]}, {}),
    (
        "lucky_view",
        "reward.stages.coarse",
        {
            "stages": {
                "coarse": best_view(),
                "refined": {"views": {"pool": "mean", "of": {"use": "clip_score"}}},
            }
        },
        {},
    ),
    (
        "margins_in_order",
        "reward",
        {"group": {"of": {"hierarchy": {"factors": FACTORS, "margins": 0.1}}, "to": "rank"}},
        {},
    ),
    (
        "margins_in_order",
        "reward.sum[0]",
        {"sum": [
            {"group": {"of": {"hierarchy": {"factors": FACTORS, "margins": {"hit": 0.1}}},
                       "to": "best"}},
            HIT,
        ]},
        {},
    ),
    ("unbounded_part", "reward.sum[1]", {"sum": [HIT, UNBOUNDED]}, {}),
    ("unbounded_part", "reward.gate.then.mean[0]",
     {"gate": {"if": {"use": "box_valid"}, "then": {"mean": [UNBOUNDED, IOU]}}}, {}),
    ("unbounded_part", "reward.blend.helpers.judge",
     {"blend": {"primary": HIT, "helpers": {"judge": UNBOUNDED}, "held_out": 0.1}}, {}),
    ("noisy_gate", "reward", {"gate": {"if": JUDGE, "at_least": 0.5, "then": HIT}}, {}),
    ("noisy_gate", "reward.sum[0]",
     {"sum": [{"progress": {"of": IOU, "required": [JUDGE]}}, HIT]}, {}),
    ("faint_part", "reward.sum[1]", {"sum": [HIT, {**IOU, "weight": 0.01}]}, {}),
    ("faint_part", "reward.sum[1]",
     {"sum": [{**IOU, "weight": 100.0}, shape("tanh", UNBOUNDED)]}, {}),
    ("faint_part", "reward.sum[1]", {"sum": [HIT, {**IOU, "weight": 0.01}]}, GDPO),
]  # fmt: skip


def found(reward: Any, algo: dict[str, Any]) -> list[tuple[str, str]]:
    findings = lint(build_reward(reward), AlgoConfig(**algo))
    return [(finding.rule, finding.place) for finding in findings]


@pytest.mark.parametrize(("rule", "place", "reward", "algo"), WRONG)
def test_a_wrong_config_is_named_with_its_place(
    rule: str, place: str, reward: Any, algo: dict[str, Any]
) -> None:
    assert (rule, place) in found(reward, algo)


def test_every_rule_has_a_wrong_config() -> None:
    assert tuple(RULES) == RULE_NAMES
    assert {rule for rule, *_ in WRONG} == set(RULES)
    assert len(WRONG) >= 20


@pytest.mark.parametrize(
    ("reward", "algo"),
    [
        (shape("running_zscore"), CENTRE),  # there the scale is the size of the step
        ({"sum": [shape("unit"), HIT]}, {}),  # weighs it against the other
        ({"gate": {"if": HIT, "then": shape("unit")}}, {}),
        (shape("par"), {}),
        (shape("par"), {"advantage": "batch_std", "advantage_eps": 1e-8}),
        ({"sum": [best_view(), {"views": {"pool": "mean", "of": {"use": "clip_score"}}}]}, {}),
        ({"group": {"of": {"hierarchy": {"factors": FACTORS}}, "to": "rank"}}, {}),
        ({"sum": [HIT, shape("tanh", UNBOUNDED)]}, {}),
        ({"sum": [UNBOUNDED, UNBOUNDED]}, {}),
        ({"gate": {"if": HIT, "then": {"product": [JUDGE, IOU]}}}, {}),
        ({"sum": [HIT, {**IOU, "weight": 0.1}]}, {}),
        ({"sum": [HIT, {**IOU, "weight": 0.0}]}, {}),  # only measured
        ({"sum": [{**HIT, "weight": 1.0}, shape("tanh", {**IOU})]}, GDPO),
    ],
)
def test_a_sound_config_is_let_through(reward: Any, algo: dict[str, Any]) -> None:
    assert found(reward, algo) == []


def test_a_reason_silences_one_rule_in_one_place() -> None:
    faint = {**IOU, "weight": 0.01}
    allowed = {**faint, "allow": {"faint_part": "breaks ties only"}}
    assert found({"sum": [HIT, faint, allowed]}, {}) == [("faint_part", "reward.sum[1]")]
    wrong_rule = {**faint, "allow": {"noisy_gate": "breaks ties only"}}
    assert found({"sum": [HIT, wrong_rule]}, {}) == [("faint_part", "reward.sum[1]")]
    best = {**best_view(), "allow": {"lucky_view": "as published"}}
    assert found(best, {}) == []


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        (
            {"faint_parts": "why"},
            r"reward.allow: there is no rule 'faint_parts'; did you mean 'fai",
        ),
        ({"faint_part": ""}, r"reward.allow.faint_part: must be the reason, a text, not ''"),
        ({"faint_part": True}, r"reward.allow.faint_part: must be the reason"),
        ("faint_part", r"reward.allow: must map rules to reasons"),
    ],
)
def test_a_silence_without_a_reason_is_refused(allow: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_reward({**IOU, "allow": allow})


@pytest.mark.parametrize("name", shipped_files("configs"))
def test_shipped_configs_pass_or_say_why(name: str) -> None:
    config = compose([shipped_files("configs")[name]])
    if not isinstance(config.get("reward"), dict):
        return  # a layer for other recipes, or a judge's
    algo = AlgoConfig.model_validate(config.get("algo", {}))
    assert [str(finding) for finding in lint(build_reward(config["reward"]), algo)] == []


def test_a_config_is_warned_of_before_anything_is_loaded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "name": "run",
        "task": {"use": "gui_grounding", "data": {"train": {"path": "nowhere.jsonl"}}},
        "policy": {"use": "vision_language", "model": "not/there"},
        "reward": {"sum": [HIT, {**IOU, "weight": 0.01}]},
    }
    with caplog.at_level(logging.WARNING):
        check_plugins(check(RunConfig, config))
    (record,) = [one for one in caplog.records if one.name.startswith("vlrl.reward.lint")]
    said = record.getMessage()
    assert said.startswith("reward.sum[1]: 'box_iou' can move the sum by 0.01, 'box_hit' by 1:")
    assert "`allow: {faint_part: your reason}`" in said
    caplog.clear()
    monkeypatch.setenv("RANK", "1")  # the main rank says it
    check_plugins(check(RunConfig, config))
    assert not [one for one in caplog.records if one.name.startswith("vlrl.reward.lint")]
