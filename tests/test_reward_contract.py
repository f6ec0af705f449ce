"""What holds for every registered reward and combinator, and every shipped tree, on any answer."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_contract import (
    SCREEN,
    answers_by_task,
    groups_of,
    on_tiny_models,
    screen_rollout,
    served_nodes,
    tiny_options,
)
from helpers_server import running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlrl.geometry.boxes import Box, Point
from vlrl.protocols import Reward, TrainableReward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.known_features import save_known
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiAnswer
from vlrl.types import Rollout

CONFIGS = Path(__file__).parent.parent / "configs" / "rewards"
TREES = {
    path.stem: yaml.safe_load(path.read_text())["reward"] for path in sorted(CONFIGS.glob("*.yaml"))
}
COMBINED = {
    f"{kind} of two": {kind: [{"use": "box_iou"}, {"use": "multi_point"}]}
    for kind in ("sum", "mean", "product", "min", "max", "harmonic", "geomean", "signed_geomean")
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
    "novelty of texts": {"novelty": {"features": "text"}},
    **{
        f"hierarchy {reduce}": {
            "hierarchy": {
                "factors": {"hit": {"use": "multi_point"}, "size": {"use": "box_iou"}},
                "reduce": reduce,
            }
        }
        for reduce in ("bradley_terry", "win_rate", "strict", "head")
    },
}
PUBLISHED = {
    f"{name} published": {"use": name, "published": True}
    for name in ("gaussian_point", "gaussian_coverage", "box_iou", "edge_harmonic", "box_hit")
}
SHAPED = {
    f"shape {kind}": {"shape": {"of": {"use": "multi_point"}, "kind": kind}}
    for kind in REGISTRY["shape"]
    if kind != "ceiling"
} | {"shape ceiling": {"shape": {"of": {"use": "multi_point"}, "kind": "ceiling", "at": 0.5}}}
TWO = [{"use": "box_iou"}, {"use": "multi_point"}]
KNOWN = tempfile.TemporaryDirectory()
save_known(Path(KNOWN.name) / "known.safetensors", np.random.default_rng(0).normal(size=(8, 24)))
JOINED = {
    "confidence": {
        "confidence": {
            "of": {"use": "clip_score"},
            "known": f"{KNOWN.name}/known.safetensors",
            "keep": 1.0,
        }
    },
    "novelty of images": {"novelty": {"features": "image", "kind": "distilled"}},
    "novelty of shapes": {"novelty": {"features": "shape", "kind": "archive"}},
    "progress": {"progress": {"of": TWO[0], "required": [{"use": "format"}], "penalties": TWO[:1]}},
    "blend": {
        "blend": {"primary": TWO[1], "helpers": {"size": TWO[0]}, "held_out": 0.5, "start": 1.0}
    },
    "any_of": {"any_of": {"of": TWO, "correct": {"use": "point_hit"}}},
    "detail": {"detail": {"correct": TWO[1], "parts": TWO[:1]}},
    "difficulty": {"difficulty": {"of": TWO[1], "weights": {"kind": {"icon": 1.5}}}},
    "gate": {"gate": {"if": {"use": "box_iou"}, "at_least": 0.5, "then": {"use": "format"}}},
    "views": {"views": {"pool": "min", "of": {"use": "clip_score"}}},
    "stage": {"stage": {"index": 0, "of": {"use": "voxel_iou"}}},
    "gain": {"gain": {"of": {"use": "voxel_iou"}}},
    "gain share": {"gain": {"of": {"use": "boundary"}, "form": "share"}},
    "stages": {
        "stages": {
            "coarse": {"use": "silhouette_iou"},
            "refined": {"sum": [{"use": "colour_match"}, {"use": "part_counts", "weight": 0.5}]},
        }
    },
}
WITH_FEATURES = {
    "adversarial_dino", "aesthetic", "clip_score", "dino_similarity", "hps_v2", "pick_score",
    "preference_head",
}  # fmt: skip
NODES = {
    **{name: {"use": name} for name in REGISTRY["reward"]},
    **{f"configs/{name}": node for name, node in TREES.items()},
    **COMBINED,
    **CLIPPED,
    **RELATIVE,
    **SHAPED,
    **PUBLISHED,
    **JOINED,
}
TASKS = {name: frozenset(resolve("task", name).provides) for name in REGISTRY["task"]}

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
    return [
        screen_rollout(parsed, number, index)
        for number, group in enumerate(groups)
        for index, parsed in enumerate(group)
    ]


def task_of(name: str) -> str:
    """The first task that provides what a node needs; its models are not loaded for that."""
    needs = build_reward(NODES[name]).needs
    fitting = [task for task, provides in TASKS.items() if needs <= provides]
    assert fitting, f"no task provides {sorted(needs)}"
    return fitting[0]


TASK_OF = {name: task_of(name) for name in NODES}
ON_SCREENS = [name for name, task in TASK_OF.items() if task == "gui_grounding"]


def values(reward, rollouts):
    """The values alone."""
    return [score.value for score in reward(rollouts)]


@pytest.fixture(scope="module")
def built(tmp_path_factory, checkpoints):
    """Every node on tiny models, built once, so that each model is loaded once."""
    base = tmp_path_factory.mktemp("contract")
    with running(served_nodes()) as server:
        options = tiny_options(base, checkpoints["qwen2_5_vl"], server.url)
        yield {name: build_reward(on_tiny_models(node, options)) for name, node in NODES.items()}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return answers_by_task(tmp_path_factory.mktemp("answers"))


def holds(reward: Reward, rollouts: list[Rollout], seed: int, tolerance: float) -> None:
    """In its range, and the same in any order and without the other groups."""
    all_values = values(reward, rollouts)
    low, high = reward.range
    assert all(
        value is None or (math.isfinite(value) and low - 1e-9 <= value <= high + 1e-9)
        for value in all_values
    )

    def same(found, indices):
        for value, i in zip(found, indices, strict=True):
            wanted = all_values[i]
            assert (value is None) == (wanted is None)
            assert value == wanted or value == pytest.approx(wanted, abs=tolerance)

    order = list(range(len(rollouts)))
    random.Random(seed).shuffle(order)
    same(values(reward, [rollouts[i] for i in order]), order)
    for number in {rollout.group for rollout in rollouts}:
        own = [i for i, one in enumerate(rollouts) if one.group == number]
        same(values(reward, [rollouts[i] for i in own]), own)


def test_every_registered_reward_and_combinator_stands_the_contract():
    assert set(REGISTRY["reward"]) <= set(NODES)
    kinds = {kind for node in NODES.values() for kind in node if kind != "use"}
    assert set(REGISTRY["combinator"]) <= kinds
    assert set(TASK_OF.values()) == set(REGISTRY["task"])


@pytest.mark.parametrize("name", NODES)
def test_a_reward_declares_its_range_and_what_it_needs(name):
    reward = build_reward(NODES[name])
    assert isinstance(reward, Reward)
    assert reward.range[0] < reward.range[1]
    assert reward.needs <= frozenset.union(*TASKS.values())


@pytest.mark.parametrize("name", ON_SCREENS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(groups=GROUPS, seed=st.integers(0, 99))
def test_contract_on_any_box_and_click(name, groups, seed):
    holds(build_reward(NODES[name]), rollouts_of(groups), seed, tolerance=0.0)


@pytest.mark.parametrize("name", NODES)
def test_contract_on_answers_of_its_task(name, built, answers):
    # A network sums in another order in another batch.
    for seed in range(2):
        rollouts = groups_of(answers[TASK_OF[name]], seed)
        found = values(built[name], rollouts)
        assert any(value is not None for value in found)
        holds(built[name], rollouts, seed, tolerance=1e-5)


@pytest.mark.parametrize("name", NODES)
def test_empty_and_unreadable_answers(name, built, answers):
    reward = built[name]
    rollouts = groups_of(answers[TASK_OF[name]], 0, sizes=(2, 2))
    for rollout in rollouts:
        rollout.parsed = None
    low, high = reward.range
    for value in values(reward, rollouts):
        assert value is None or low <= value <= high
    assert reward([]) == []


@pytest.mark.parametrize("name", NODES)
def test_parts_are_finite_and_named(name, built, answers):
    for score in built[name](groups_of(answers[TASK_OF[name]], 1)):
        assert score.value is None or score.parts
        assert all(part and math.isfinite(value) for part, value in score.parts.items())


@pytest.mark.parametrize("name", ON_SCREENS)
def test_the_perfect_box_gets_the_top(name):
    reward = build_reward(NODES[name])
    true = Box(0.0, 50.0, 80.0, 90.0, SCREEN)
    (score,) = reward(rollouts_of([[GuiAnswer(true, (true.centre,), True)]]))
    if name in RELATIVE:
        assert score.value is None  # alone in its group
        return
    if name in SHAPED and name not in ("shape ceiling", "shape length_penalty", "shape unit"):
        assert score.value is None or score.value <= reward.range[1]  # beside others it may rise
        return
    assert score.value == reward.range[1] or name == "configs/infigui_g1"
    assert score.parts
    assert all(math.isfinite(value) for value in score.parts.values())


@pytest.mark.parametrize("name", REGISTRY["reward"])
def test_a_reward_that_learns_goes_on_from_its_saved_state(name, built, answers):
    """One that does not learn says so by its class."""
    reward = built[name]
    assert isinstance(reward, TrainableReward) == name.startswith("adversarial_")
    if isinstance(reward, TrainableReward):
        rollouts = groups_of(answers[TASK_OF[name]], 1)
        reward.update(rollouts)
        state = reward.state_dict()
        before = values(reward, rollouts)
        reward.load_state_dict(state)
        assert values(reward, rollouts) == before


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, task in TASK_OF.items()
        if name in REGISTRY["reward"] and task == "text_to_image"
    ],
)
def test_features_are_numbers_of_each_answer_whatever_stands_beside_it(name, built, answers):
    """What a learnt reward's model sees: none for a rule, nan for an answer that is not there."""
    rollouts = groups_of(answers["text_to_image"], seed=5)
    found = built[name].answer_features(rollouts)
    assert (found is None) == (name not in WITH_FEATURES)
    if found is None:
        return
    there = [one.parsed is not None for one in rollouts]
    assert 0 < sum(there) < len(there)
    assert np.isfinite(found).all(1).tolist() == there
    alone = built[name].answer_features(rollouts[-1:] if there[-1] else rollouts[:1])
    assert alone == pytest.approx(found[-1:] if there[-1] else found[:1], rel=1e-4, abs=1e-5)


def test_a_preference_head_scores_its_own_features(built, answers):
    rollouts = [
        one for one in groups_of(answers["text_to_image"], seed=6) if one.parsed is not None
    ]
    reward = built["preference_head"]
    hidden = reward.answer_features(rollouts)
    head = reward.head.module.head.score
    wanted = hidden @ head.weight[0].double().numpy() + float(head.bias[0])
    assert [one.value for one in reward(rollouts)] == pytest.approx(wanted, rel=1e-4, abs=1e-4)
