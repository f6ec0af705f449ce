"""Shaped rewards: every kind against numbers worked by hand, and what each must keep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlrl.algo.advantages import advantages
from vlrl.errors import ConfigError, DataError, RewardError
from vlrl.protocols import Reward, TrainableReward
from vlrl.registry import REGISTRY
from vlrl.reward.functions import reward_function
from vlrl.reward.shapes.running import Statistics
from vlrl.reward.tree import build_reward
from vlrl.types import Finish, Rollout, Sample

finite = st.floats(-20, 20)


@reward_function(range=(-20.0, 20.0), formula="the answer", source="test")
def said(rollout: Rollout) -> float | None:
    """The number that the answer is; no number: does not apply."""
    return None if rollout.output is None else float(rollout.output)


@reward_function(range=(-math.inf, math.inf), formula="the answer", source="test")
def unbounded(rollout: Rollout) -> float:
    return float(rollout.output)


SAID = {"use": "test_shape_node:said"}


def answers(values: Sequence[float | None], group: int = 0, num_tokens: int = 0) -> list[Rollout]:
    """One group of answers that are numbers."""
    return [
        Rollout(Sample(f"s{group}", "t", (), None), group, i, v, Finish.STOP, num_tokens, 0)
        for i, v in enumerate(values)
    ]


def shape(kind: str, of: Any = SAID, **options: Any) -> Reward:
    return build_reward({"shape": {"of": of, "kind": kind, **options}})


def values(reward: Reward, rollouts: Sequence[Rollout]) -> list[float | None]:
    found = [one.value for one in reward(rollouts)]
    low, high = reward.range
    assert all(one is None or low - 1e-9 <= one <= high + 1e-9 for one in found)
    return found


def references(folder: Path, *rewards: float) -> dict[str, Any]:
    """References of the prompt s0, from a file."""
    path = folder / "references.jsonl"
    path.write_text(json.dumps({"id": "s0", "rewards": list(rewards)}) + "\n", encoding="utf-8")
    return {"from": "file", "file": str(path), "num": max(1, len(rewards))}


BY_HAND: dict[str, tuple[dict[str, Any], list[float], list[float]]] = {
    # kind: options, references, the shaped values of -1, 2, 5
    "par": ({}, [0.0, 10.0], [0.1344790, 0.4405661, 0.5]),
    "centred": ({}, [0.0, 4.0], [-3.0, 0.0, 3.0]),
    "tanh": ({"slope": 0.5}, [1.0], [-0.7615942, 0.4621172, 0.9640276]),
    "arctan": ({}, [1.0, 2.0], [-1.1780972, 0.3926991, 1.2874316]),
    "slow_start": ({}, [0.0], [0.0179862, 0.2689414, 0.8807971]),
    "log_sigmoid": ({"percentile": 0.5}, [0.0, 4.0], [-3.0485874, -0.6931472, -0.0485874]),
    "ceiling": ({"at": 2.5}, [], [-1.0, 2.0, 2.5]),
    "unit": ({}, [], [0.475, 0.55, 0.625]),
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_values_worked_by_hand(kind: str, tmp_path: Path) -> None:
    options, compared, wanted = BY_HAND[kind]
    if compared:
        options = {**options, "references": references(tmp_path, *compared)}
    found = values(shape(kind, **options), answers([-1.0, 2.0, 5.0, None]))
    assert found == [pytest.approx(one, abs=2e-6) for one in wanted] + [None]


def test_a_sigmoid_of_the_mean_is_not_the_mean_of_sigmoids(tmp_path: Path) -> None:
    """References 0 and 10: for 5 both are 0.5, for 2 they are 0.44 and 0.05."""
    compared = references(tmp_path, 0.0, 10.0)
    at_5, at_2 = values(shape("par", references=compared), answers([5.0, 2.0]))
    assert at_5 == pytest.approx(0.5)
    assert at_2 == pytest.approx(0.4406, abs=1e-4)


@given(finite, finite, st.floats(-5, 5), st.floats(0.1, 3))
def test_par_compares(a: float, b: float, shift: float, slope: float) -> None:
    """A reference itself gets 0.5, both shifted the same, and a better answer more."""
    from vlrl.reward.shapes.compared import ComparedOptions
    from vlrl.reward.shapes.par import Par
    from vlrl.reward.shapes.shaper import Seen

    par = Par(ComparedOptions(slope=slope), (-20.0, 20.0))
    assert par.shaped(a, Seen((a,))) == 0.5
    assert par.shaped(a + shift, Seen((b + shift,))) == pytest.approx(par.shaped(a, Seen((b,))))
    better = par.shaped(a + 0.5, Seen((b,)))
    assert better > par.shaped(a, Seen((b,))) or better in (0.0, 1.0)


def test_references_of_the_group_are_the_others() -> None:
    found = values(shape("par"), [*answers([1.0, 3.0, None]), *answers([7.0], group=1)])
    assert found[0] == pytest.approx(1 / (1 + math.e**2))
    assert found[0] is not None
    assert found[1] == pytest.approx(1 - found[0])
    assert found[2:] == [None, None]  # no reward; nobody to compare with


def test_running_statistics_are_used_before_they_are_updated() -> None:
    """First 0, 2, 4 in two groups, which their own group stands in for; then 3 and 6."""
    clip, zscore, minmax = (shape(f"running_{kind}") for kind in ("clip", "zscore", "minmax"))
    first = [*answers([0.0, 4.0]), *answers([2.0], group=1)]
    second = answers([3.0, 6.0])
    assert values(zscore, first) == [-1.0, 1.0, 0.0]
    assert values(minmax, first) == [0.0, 1.0, 0.5]
    assert values(clip, first) == [0.0, 4.0, 2.0]
    for node in (clip, zscore, minmax):
        assert isinstance(node, TrainableReward)
        node(first)
        node.update(first)
    std = math.sqrt(8 / 3)
    assert values(zscore, second) == pytest.approx([1 / std, 4 / std])
    assert values(minmax, second) == [0.75, 1.0]
    assert values(clip, second) == pytest.approx([3.0, 2 + std])
    assert isinstance(zscore, TrainableReward)
    zscore.update(second)  # 0, 4, 2, twice, since `values` and the loop scored them; then 3, 6
    assert values(zscore, answers([21 / 8]))[0] == pytest.approx(0.0)


def test_a_constant_start_divides_by_no_zero() -> None:
    node = shape("running_minmax")
    assert isinstance(node, TrainableReward)
    assert values(node, answers([2.0, 2.0])) == [0.5, 0.5]
    node.update(answers([2.0, 2.0]))
    assert values(node, answers([2.0, 3.0])) == [0.5, 0.5]
    zscore = shape("running_zscore")
    assert values(zscore, answers([2.0, 2.0])) == [0.0, 0.0]


@given(st.lists(finite, min_size=1, max_size=12), st.integers(0, 12))
def test_ranks_that_share_values_have_the_statistics_of_one(found: list[float], cut: int) -> None:
    """To the last bit, whichever rank had which value."""
    one = Statistics().with_values([1.0, 2.5]).with_values(found)
    two = Statistics().with_values([2.5, 1.0]).with_values([*found[cut:], *found[:cut]])
    assert one == two
    assert one.mean == pytest.approx(sum([1.0, 2.5, *found]) / (len(found) + 2))
    everything = torch.tensor([1.0, 2.5, *found], dtype=torch.float64)
    assert one.std == pytest.approx(float(everything.std(unbiased=False)), abs=1e-9)


def test_a_resumed_run_goes_on_to_the_last_bit() -> None:
    node, resumed = shape("running_zscore"), shape("running_zscore")
    assert isinstance(node, TrainableReward)
    assert isinstance(resumed, TrainableReward)
    for step in (answers([0.1, 0.7, -3.3]), answers([9.1, 0.2])):
        node(step)
        node.update(step)
    resumed.load_state_dict(json.loads(json.dumps(node.state_dict())))
    later = answers([0.123, 4.567])
    assert values(node, later) == values(resumed, later)
    node.update(later)
    resumed.update(later)
    assert node.state_dict() == resumed.state_dict()


@pytest.mark.parametrize("kind", ["centred", "running_zscore", "running_minmax", "unit"])
def test_affine_kinds_change_nothing_under_z_scores(kind: str) -> None:
    group = torch.zeros(4, dtype=torch.long)
    raw = [0.5, 3.0, -2.0, 1.0]
    node = shape(kind)
    assert values(node, answers(raw))  # statistics of the group stand in
    shaped = torch.tensor(values(node, answers(raw)))
    eps = 1e-7
    assert torch.allclose(
        advantages(shaped, group, "group_zscore", eps=eps),
        advantages(torch.tensor(raw), group, "group_zscore", eps=eps),
        atol=1e-5,
    )


def test_a_saturated_group_is_damped_by_epsilon() -> None:
    """All rewards 8 above the reference: eps 1e-8 blows their spread up, 1e-4 does not."""
    from vlrl.reward.shapes.compared import sigmoid

    spread = torch.tensor([sigmoid(x) for x in (8.0, 8.1, 8.2, 8.3)], dtype=torch.float64)
    group = torch.zeros(4, dtype=torch.long)
    full = advantages(spread, group, "group_zscore", eps=1e-8).abs().mean()
    damped = advantages(spread, group, "group_zscore", eps=1e-4).abs().mean()
    assert full > 0.7
    assert damped < full / 2


def test_length_beyond_a_free_part_costs() -> None:
    node = shape("length_penalty", free_tokens=10, per_token=0.5, most=3.0)
    assert node.range == (-23.0, 20.0)
    assert [values(node, answers([1.0], num_tokens=n))[0] for n in (0, 10, 12, 99)] == [1, 1, 0, -2]
    assert shape("length_penalty").range == (-math.inf, 20.0)


@pytest.mark.parametrize("kind", REGISTRY["shape"])
@given(found=st.lists(finite | st.none(), min_size=2, max_size=5))
def test_every_kind_stays_in_its_range(kind: str, found: list[float | None]) -> None:
    node = shape(kind, **({"at": 0.5} if kind == "ceiling" else {}))
    shaped = values(node, answers(found))
    if isinstance(node, TrainableReward):
        node.update(answers(found))
        shaped += values(node, answers([-20.0, 20.0, *found]))
    assert all(one is None or math.isfinite(one) for one in shaped)


def test_an_evaluations_rows_are_references(tmp_path: Path) -> None:
    """Answers of the frozen policy: `evaluations/before/<split>.jsonl` with the reward measured."""
    path = tmp_path / "train.jsonl"
    rows = [{"id": "s0", "metrics": {"proxy": 1.0}}, {"id": "s1", "metrics": {"proxy": None}}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = {"from": "file", "file": str(path), "column": "metrics.proxy"}
    node = shape("centred", references=found)
    assert values(node, answers([3.0])) == [2.0]
    with pytest.raises(RewardError, match="no reference reward for sample 's1'"):
        node(answers([3.0], group=1))


def test_references_of_another_reward_are_refused(tmp_path: Path) -> None:
    node = shape("par", references=references(tmp_path, 500.0))
    with pytest.raises(RewardError, match=r"of sample 's0' is outside \[-20, 20\]"):
        node(answers([1.0]))


def test_references_of_the_policy_need_a_training() -> None:
    node = shape("par", references={"from": "policy", "num": 2})
    with pytest.raises(RewardError, match="sampled when a training starts"):
        node(answers([1.0]))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"kind": "parr", "of": SAID}, r"reward.shape.kind: unknown shape 'parr'; did you mean"),
        ({"kind": "par", "of": SAID, "slop": 1.0}, r"reward.shape: unknown key 'slop'; did you"),
        ({"kind": "par", "of": SAID, "slope": 0.0}, r"reward.shape.slope"),
        ({"kind": "par"}, r"reward.shape: `of:` is missing"),
        ({"kind": "unit", "of": {"use": "test_shape_node:unbounded"}}, "needs a reward of finite"),
        ({"kind": "ceiling", "of": SAID, "at": -20.0}, r"reward.shape: at: must be above the low"),
        ({"kind": "par", "of": SAID, "references": {"from": "file"}}, "`file:` goes with"),
        (
            {"kind": "par", "of": SAID, "references": {"from": "file", "file": "nowhere.jsonl"}},
            r"reward.shape.references.file: there is no file 'nowhere.jsonl'",
        ),
        ([SAID], r"reward.shape: takes a mapping with of, kind"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_refused_with_its_place(node: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_reward({"shape": node})


def test_a_wrong_reference_file_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"id": "s0", "rewards": [1.0, "high"]}\n', encoding="utf-8")
    node = shape("par", references={"from": "file", "file": str(path)})
    with pytest.raises(DataError, match=r"row 1: field 'rewards' must hold finite numbers, not"):
        node(answers([1.0]))
