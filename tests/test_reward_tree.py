"""Combinators, gates and the building of reward trees."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward
from vlrl.reward.combinators.combine import Max, Mean, Min, Product, Sum
from vlrl.reward.combinators.gate import Gate
from vlrl.reward.tree import build_reward, score
from vlrl.types import Finish, Rollout, Sample, Score

CONFIGS = Path(__file__).parent.parent / "configs" / "rewards"


class Fixed(Reward):
    """A reward of given values for any rollouts."""

    def __init__(self, values, low=-2.0, high=2.0, name="fixed"):
        self.values, self.range, self.name = values, (low, high), name
        self.needs = frozenset({name})

    def __call__(self, rollouts):
        return [Score(value, {} if value is None else {self.name: value}) for value in self.values]


def rollouts(count=1):
    """Empty rollouts."""
    return [
        Rollout(Sample(f"s{i}", "t", (), None), 0, i, "", Finish.STOP, 0, 0) for i in range(count)
    ]


def values(reward, count=1):
    """The values over that many empty rollouts."""
    return [one.value for one in reward(rollouts(count))]


def test_combinators_by_hand():
    a, b = Fixed([1.0, 2.0, None, None]), Fixed([-0.5, None, 1.5, None])
    assert values(Sum([a, b], [2.0, 4.0]), 4) == [0.0, 4.0, 6.0, None]
    assert values(Mean([a, b], [1.0, 3.0]), 4) == [-0.125, 2.0, 1.5, None]
    assert values(Product([a, b]), 4) == [-0.5, 2.0, 1.5, None]
    assert values(Min([a, b]), 4) == [-0.5, 2.0, 1.5, None]
    assert values(Max([a, b]), 4) == [1.0, 2.0, 1.5, None]
    assert Sum([a, b]).needs == {"fixed", "fixed_2"} or Sum([a, b]).needs == {"fixed"}


def test_gate_opens_exactly_at_the_threshold():
    condition, then = Fixed([0.4, 0.5, None]), Fixed([2.0, 2.0, 2.0])
    assert values(Gate(condition, then, -1.0, 0.5), 3) == [-1.0, 2.0, None]


def test_closed_gate_hides_every_lower_value():
    for low in (-2.0, 0.0, 2.0):
        assert values(Gate(Fixed([0.0]), Fixed([low]), 0.25, 1.0)) == [0.25]


def test_a_tree_has_the_range_of_its_parts():
    a, b = Fixed([0], 0.0, 1.0), Fixed([0], -1.0, 3.0)
    assert Sum([a, b], [2.0, -1.0]).range == (-3.0, 3.0)
    assert Mean([a, b]).range == (-1.0, 3.0)
    assert Product([a, b]).range == (-1.0, 3.0)
    assert Min([a, b]).range == Max([a, b]).range == (-1.0, 3.0)
    assert Gate(a, b, -5.0, 1.0).range == (-5.0, 3.0)


ends = st.floats(-5, 5)


@st.composite
def fixed(draw):
    """A reward with a range and a value inside it, or None."""
    low, high = sorted((draw(ends), draw(ends)))
    return Fixed([draw(st.none() | st.floats(low + 0.0, high + 0.0))], low, high)


@settings(max_examples=200, deadline=None)
@given(st.lists(fixed(), min_size=1, max_size=4), st.data())
def test_values_stay_in_the_declared_range(children, data):
    weights = data.draw(st.lists(ends, min_size=len(children), max_size=len(children)))
    positive = [abs(weight) + 0.1 for weight in weights]
    joints = [Sum(children, weights), Mean(children, positive), Product(children)]
    for reward in [*joints, Min(children), Max(children)]:
        (value,) = values(reward)
        assert (value is None) == all(child.values == [None] for child in children)
        if value is not None:
            low, high = reward.range
            assert low - 1e-9 <= value <= high + 1e-9


def test_parts_carry_every_leaf_once():
    tree = Sum([Fixed([1.0]), Gate(Fixed([1.0]), Fixed([2.0])), Fixed([None])])
    (one,) = tree(rollouts())
    assert one.parts == {"fixed": 1.0, "fixed_2": 1.0, "fixed_3": 2.0}
    assert one.value == 3.0


def test_labels_in_a_config():
    node = {
        "label": "total",
        "sum": [{"use": "box_hit"}, {"use": "box_hit", "label": "again"}, {"use": "box_hit"}],
    }
    tree = build_reward(node)
    assert [child.name for child in tree.children] == ["box_hit", "again", "box_hit_2"]
    assert tree.label == "total"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_reward_configs(path):
    content = yaml.safe_load(path.read_text())
    assert set(content) == {"reward"}
    low, high = build_reward(content["reward"]).range
    maximum = {"gui_g2": 3, "gui_g1": 1.375, "se_gui": 3, "gta1": 1, "infigui_g1": 2, "hi_grpo": 15}
    minimum = {"infigui_g1": -1.0, "hi_grpo": -2.0}  # a cosine in each of its stages
    # A declared range is a bound: STVG-o1's best answer has 5, for a perfect one improves nothing.
    maximum |= {
        "grip": 3,
        "rewardmap": 5,
        "rewardmap_no_detail": 4,
        "shape_boundary": 6,
        "shape_counted": 10.5,
        "stvg_o1": 6.5,
        "stvg_no_thinking": 4,
        "stvg_o1_credit": 7,
    }
    minimum |= {
        "grip": -1.0,
        "shape_boundary": -0.75,
        "shape_counted": -0.25,
        "stvg_o1": -4.0,
        "stvg_no_thinking": -2.0,
        "stvg_o1_credit": -4.0,
    }
    assert high == pytest.approx(maximum.get(path.stem, 1))
    assert low == minimum.get(path.stem, 0.0)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ([1], r"reward: a reward node must be a mapping"),
        ({"use": "gausian_point"}, r"did you mean 'gaussian_point'"),
        ({"use": "gaussian_point", "alfa": 1}, r"no option 'alfa'; did you mean 'alpha'"),
        ({"use": "gaussian_point", "alpha": 0}, "option 'alpha': must be above 0, not 0"),
        ({"use": "gaussian_point", "extent": 1}, r"no option 'extent'"),
        ({"use": 3}, r"`use:` takes a name"),
        ({"sums": []}, r"unknown combinator 'sums'; did you mean 'sum'"),
        ({"sum": []}, r"reward\.sum: takes a list"),
        ({"sum": [{"use": "box_hit", "weight": "1"}]}, r"reward\.sum\[0\]: `weight` is a finite"),
        ({"use": "box_hit", "weight": 2}, r"`weight` counts only under"),
        ({"min": [{"use": "box_hit", "weight": 2}]}, r"reward\.min\[0\]: `weight` counts only"),
        ({"mean": [{"use": "box_hit", "weight": 0}]}, r"every weight is above 0"),
        ({"gate": {"if": {"use": "box_valid"}}}, r"`then:` is missing"),
        ({"gate": {"if": {"use": "box_hit"}, "then": {"use": "box_iou"}, "els": 1}}, r"'else'"),
        (
            {"gate": {"if": {"use": "box_iou"}, "then": {"use": "box_iou"}, "at_least": 2}},
            r"outside the condition's range",
        ),
        ({"clip": {"of": {"use": "box_iou"}}}, r"at least one of `low:`, `high:`"),
        ({"clip": {"of": {"use": "box_iou"}, "low": 1, "high": 0}}, r"not below"),
        ({"use": "box_hit", "sum": []}, r"no option 'sum'"),
        (
            {"harmonic": [{"use": "box_hit"}, {"sum": [{"use": "box_iou", "weight": 0}]}]},
            r"reward\.harmonic: harmonic\[1\]: 'sum' has the range \[0, 0\].*always the same",
        ),
        (
            {"sum": [{"geomean": [{"clip": {"of": {"use": "box_iou"}, "low": 2, "high": 3}}]}]},
            r"reward\.sum\[0\]\.geomean: geomean\[0\]: 'clip' has the range \[2, 2\]",
        ),
        (
            {"geomean": [{"use": "helpers_tubes:answer_of"}]},
            r"geomean\[0\]: 'answer_of' has the range \[-inf, inf\].*under `clip`",
        ),
    ],
)
def test_mistakes_name_the_place(node, message):
    with pytest.raises(ConfigError, match=message):
        build_reward(node)


def test_clip_bounds_values_and_leaves_none():
    from vlrl.reward.combinators.bounds import Bounds

    clip = Bounds(Fixed([-2.0, 0.5, 2.0, None]), 0.0, 1.0)
    assert values(clip, 4) == [0.0, 0.5, 1.0, None]
    assert clip.range == (0.0, 1.0)


def test_an_exception_names_the_leaf():
    class Broken(Fixed):
        def __call__(self, rollouts):
            raise KeyError("judge")

    with pytest.raises(RewardError, match=r"'broken' failed: KeyError"):
        score(Sum([Fixed([1.0]), Broken([], name="broken")]), rollouts())


def test_a_value_outside_the_range_is_an_error():
    from vlrl.reward.functions import FunctionReward, reward_function

    @reward_function(range=(0.0, 1.0), formula="2")
    def too_much(rollout):
        return 2.0

    reward = FunctionReward("too_much", too_much.vlrl_reward, {})
    with pytest.raises(RewardError, match=r"'too_much' gave 2\.0 for sample 's0'"):
        score(reward, rollouts())
