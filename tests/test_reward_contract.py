"""What holds for every registered reward and for trees of them, on any answer."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlrl.build import provided
from vlrl.geometry.boxes import Box, Frame, Point
from vlrl.protocols import Reward
from vlrl.registry import REGISTRY
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiAnswer, GuiTarget
from vlrl.types import Finish, Rollout, Sample

CONFIGS = Path(__file__).parent.parent / "configs" / "rewards"
TREES = {
    path.stem: yaml.safe_load(path.read_text())["reward"] for path in sorted(CONFIGS.glob("*.yaml"))
}
COMBINED = {
    f"{kind} of two": {kind: [{"use": "box_iou"}, {"use": "multi_point"}]}
    for kind in ("sum", "mean", "product", "min", "max")
}
CLIPPED = {"clip": {"clip": {"of": {"use": "multi_point"}, "low": 0.0}}}
RELATIVE = {
    **{
        f"pair {reduce}": {"pair": {"of": {"use": "multi_point"}, "reduce": reduce}}
        for reduce in ("mean", "win_rate", "think_rm")
    },
    "pair with mates": {"pair": {"of": {"use": "multi_point"}, "mates": 1}},
    **{
        f"group {to}": {"group": {"of": {"use": "multi_point"}, "to": to}}
        for to in ("rank", "best", "centre")
    },
}
PUBLISHED = {
    f"{name} published": {"use": name, "published": True}
    for name in ("gaussian_point", "gaussian_coverage", "box_iou", "edge_harmonic", "box_hit")
}
NODES = {
    **{name: {"use": name} for name in REGISTRY["reward"]},
    **{f"configs/{name}": node for name, node in TREES.items()},
    **COMBINED,
    **CLIPPED,
    **RELATIVE,
    **PUBLISHED,
}
GUI_NEEDS = {"box", "points", "format"}

SCREEN = Frame(1000, 500)
numbers = st.one_of(
    st.integers(-50, 1100).map(float), st.floats(allow_nan=True, allow_infinity=True)
)
boxes = st.builds(lambda a, b, c, d: Box(a, b, c, d, SCREEN), numbers, numbers, numbers, numbers)
points = st.builds(lambda x, y: Point(x, y, SCREEN), numbers, numbers)
answers = st.none() | st.builds(
    GuiAnswer,
    st.none() | boxes,
    st.lists(points, max_size=5).map(tuple),
    st.booleans(),
)
GROUPS = st.lists(st.lists(answers, min_size=1, max_size=4), min_size=1, max_size=3)


def rollouts_of(groups) -> list[Rollout]:
    """Every group has a true box of its own."""
    out = []
    for number, group in enumerate(groups):
        box = Box(100.0 * number, 50.0, 100.0 * number + 80, 90.0, SCREEN)
        sample = Sample(f"s{number}", "gui_grounding", (), GuiTarget(box))
        out += [
            Rollout(sample, number, index, "", Finish.STOP, 0, 0, parsed=parsed)
            for index, parsed in enumerate(group)
        ]
    return out


def values(reward, rollouts):
    """The values alone."""
    return [score.value for score in reward(rollouts)]


@pytest.mark.parametrize("name", NODES)
def test_declares_itself(name):
    reward = build_reward(NODES[name])
    assert isinstance(reward, Reward)
    assert reward.range[0] < reward.range[1]
    assert reward.needs <= set(provided())


@pytest.mark.parametrize("name", NODES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(groups=GROUPS, seed=st.integers(0, 99))
def test_contract(name, groups, seed):
    reward = build_reward(NODES[name])
    if not reward.needs <= GUI_NEEDS:
        pytest.skip("a reward of another task")
    rollouts = rollouts_of(groups)
    all_values = values(reward, rollouts)
    low, high = reward.range
    assert all(
        value is None or (math.isfinite(value) and low - 1e-9 <= value <= high + 1e-9)
        for value in all_values
    )
    order = list(range(len(rollouts)))
    random.Random(seed).shuffle(order)
    assert values(reward, [rollouts[i] for i in order]) == [all_values[i] for i in order]
    for number in range(len(groups)):
        own = [i for i, one in enumerate(rollouts) if one.group == number]
        assert values(reward, [rollouts[i] for i in own]) == [all_values[i] for i in own]


@pytest.mark.parametrize("name", NODES)
def test_empty_and_unreadable_answers(name):
    reward = build_reward(NODES[name])
    if not reward.needs <= GUI_NEEDS:
        pytest.skip("a reward of another task")
    rollouts = rollouts_of([[None, GuiAnswer(None, (), False)]])
    low, high = reward.range
    for value in values(reward, rollouts):
        assert value is None or low <= value <= high
    assert reward([]) == []


@pytest.mark.parametrize("name", NODES)
def test_parts_are_finite_and_named(name):
    reward = build_reward(NODES[name])
    if not reward.needs <= GUI_NEEDS:
        pytest.skip("a reward of another task")
    true = Box(0.0, 50.0, 80.0, 90.0, SCREEN)
    (score,) = reward(rollouts_of([[GuiAnswer(true, (true.centre,), True)]]))
    if name in RELATIVE:
        assert score.value is None  # alone in its group
        return
    assert score.value == reward.range[1] or name == "configs/infigui_g1"
    assert score.parts
    assert all(math.isfinite(value) for value in score.parts.values())
