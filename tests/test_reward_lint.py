"""The linter: twenty configs that will not do what they seem to, and every shipped one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from vlrl.algo.advantages import advantages
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
BALANCE = {"objective": "trajectory_balance"}
MEASURED = {"views": {"pool": "mean", "of": {"use": "clip_score"}}, "weight": 0.0}
IN_MARGINS = {"hierarchy": {"factors": FACTORS, "margins": 0.1}}


def detail(weight: float, correct: Any = HIT, second: float = 1.0) -> dict[str, Any]:
    parts = [IOU, {"use": "gaussian_point", "weight": second}]
    return {"detail": {"correct": correct, "parts": parts, "weight": weight}}


def blend(most: float) -> dict[str, Any]:
    helpers = {"size": IOU}
    return {"blend": {"primary": HIT, "helpers": helpers, "held_out": 0.1, "start": 0.0,
                      "most": most}}  # fmt: skip


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
    ("best_view_alone", "reward", best_view(), {}),
    ("best_view_alone", "reward.sum[0]", {"sum": [best_view(), {"use": "part_counts"}]}, {}),
    (
        "best_view_alone",
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
    ("small_weight", "reward.sum[1]", {"sum": [HIT, {**IOU, "weight": 0.01}]}, {}),
    ("small_weight", "reward.sum[1]",
     {"sum": [{**IOU, "weight": 100.0}, shape("tanh", UNBOUNDED)]}, {}),
    ("small_weight", "reward.sum[1]", {"sum": [HIT, {**IOU, "weight": 0.01}]}, GDPO),
    # One child that counts is as none above: the sum only scales.
    ("affine_shaper", "reward.sum[0]", {"sum": [shape("unit")]}, {}),
    ("affine_shaper", "reward.sum[0]", {"sum": [shape("unit"), {**HIT, "weight": 0.0}]}, {}),
    ("affine_shaper", "reward.mean[0].sum[0]", {"mean": [{"sum": [shape("running_zscore")]}]},
     {"advantage": "global_std"}),
    ("affine_shaper", "reward", shape("centred", **OF_PROMPT), BALANCE),
    ("best_view_alone", "reward.sum[0]", {"sum": [best_view(), MEASURED]}, {}),
    ("margins_in_order", "reward",
     {"group": {"of": {"sum": [IN_MARGINS, {"use": "box_valid"}]}, "to": "rank"}}, {}),
    ("margins_in_order", "reward",
     {"group": {"of": {"clip": {"of": IN_MARGINS, "high": 1.0}}, "to": "best"}}, {}),
    ("noisy_gate", "reward", detail(0.5, JUDGE), {}),
    ("small_weight", "reward.detail.parts[0]", detail(0.001), {}),
    ("small_weight", "reward.detail.parts[1]", detail(0.5, second=0.001), {}),
    ("small_weight", "reward.blend.helpers.size", blend(0.001), {}),
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
        # A reward's size is that of exp(beta r) there, and no advantage divides by it.
        *((shape(kind), BALANCE) for kind in ("unit", "running_zscore", "running_minmax")),
        (shape("par"), {**BALANCE, "advantage_eps": 1e-8}),
        # The deviation of all rewards shrinks where prompts are no longer far apart.
        (shape("centred"), {"advantage": "global_std"}),
        (shape("centred", **OF_PROMPT), {"advantage": "global_std"}),
        ({"sum": [HIT, {**best_view(), "weight": 0.0}]}, {}),
        ({"sum": [UNBOUNDED, {**HIT, "weight": 0.0}]}, {}),
        ({"group": {"of": {"sum": [HIT, {**IN_MARGINS, "weight": 0.0}]}, "to": "rank"}}, {}),
        ({"any_of": {"of": [HIT, IOU], "correct": JUDGE}}, {}),  # a factor, no threshold
        (detail(0.2), {}),
        (blend(0.2), {}),
    ],
)
def test_a_sound_config_is_let_through(reward: Any, algo: dict[str, Any]) -> None:
    assert found(reward, algo) == []


def test_a_reason_silences_one_rule_in_one_place() -> None:
    faint = {**IOU, "weight": 0.01}
    allowed = {**faint, "allow": {"small_weight": "breaks ties only"}}
    assert found({"sum": [HIT, faint, allowed]}, {}) == [("small_weight", "reward.sum[1]")]
    wrong_rule = {**faint, "allow": {"noisy_gate": "breaks ties only"}}
    assert found({"sum": [HIT, wrong_rule]}, {}) == [("small_weight", "reward.sum[1]")]
    best = {**best_view(), "allow": {"best_view_alone": "as published"}}
    assert found(best, {}) == []


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        (
            {"small_weights": "why"},
            r"reward.allow: there is no rule 'small_weights'; did you mean 'sma",
        ),
        ({"small_weight": ""}, r"reward.allow.small_weight: must be the reason, a text, not ''"),
        ({"small_weight": True}, r"reward.allow.small_weight: must be the reason"),
        ("small_weight", r"reward.allow: must map rules to reasons"),
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


def test_a_metric_that_would_learn_is_refused() -> None:
    config = {
        "name": "run",
        "task": {"use": "gui_grounding", "data": {"train": {"path": "nowhere.jsonl"}}},
        "policy": {"use": "vision_language", "model": "not/there"},
        "reward": HIT,
        "metrics": {"new": {"sum": [HIT, {"novelty": {"features": "text", "kind": "archive"}}]}},
    }
    with pytest.raises(ConfigError, match=r"metrics.new.sum\[1\]: 'novelty_archive' learns along"):
        check_plugins(check(RunConfig, config))


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
    assert "`allow: {small_weight: your reason}`" in said
    caplog.clear()
    monkeypatch.setenv("RANK", "1")  # the main rank says it
    check_plugins(check(RunConfig, config))
    assert not [one for one in caplog.records if one.name.startswith("vlrl.reward.lint")]


def test_centring_changes_advantages_by_the_deviation_of_all_rewards() -> None:
    """Groups [0, 1] and [10, 11]: 0.5 / std, std = sqrt(25.25) before and 0.5 after centring."""
    group = torch.tensor([0, 0, 1, 1])
    for rewards, size in (([0.0, 1.0, 10.0, 11.0], 0.0995), ([-0.5, 0.5, -0.5, 0.5], 0.9998)):
        values = torch.tensor(rewards)
        std = float(values.std(correction=0))
        found = advantages(values, group, "global_std", batch_std=std)
        assert found.abs().tolist() == pytest.approx([size] * 4, abs=1e-4)
