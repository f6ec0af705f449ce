"""Nodes that join rewards: each against a table worked by hand, and what it must keep."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward, TrainableReward
from vlrl.reward.combinators.blend import Blend
from vlrl.reward.combinators.hierarchy import compared
from vlrl.reward.functions import reward_function
from vlrl.reward.tree import build_reward
from vlrl.types import Finish, Rollout, Sample

signed = st.floats(-1, 1)


@reward_function(range=(-1.0, 1.0), formula="the answer's column", source="test")
def at(rollout: Rollout, *, column: int = 0) -> float | None:
    """One of the numbers that the answer is."""
    source = rollout.output if rollout.parsed is None else rollout.parsed.output
    return None if source[column] is None else float(source[column])


@reward_function(range=(0.0, 1.0), formula="the answer's column", source="test")
def share(rollout: Rollout, *, column: int = 0) -> float | None:
    """One of the numbers that the answer is."""
    return at(rollout, column=column)


@reward_function(range=(0.0, 1.0), formula="1 - |answer - route|", source="test")
def near(rollout: Rollout) -> float:
    """Likeness to the accepted answer `route`."""
    return 1 - abs(rollout.output[0] - rollout.sample.columns["route"])


def node(kind: str, column: int = 0) -> dict[str, Any]:
    return {"use": f"test_joining_nodes:{kind}", "column": column}


def answers(
    rows: Sequence[Sequence[float | None]], group: int = 0, columns: Mapping[str, Any] | None = None
) -> list[Rollout]:
    """One group of answers that are tuples of numbers."""
    sample = Sample(f"s{group}", "t", (), None, columns or {})
    return [Rollout(sample, group, i, tuple(row), Finish.STOP, 0, 0) for i, row in enumerate(rows)]


def values(reward: Reward, rollouts: Sequence[Rollout]) -> list[float | None]:
    found = [one.value for one in reward(rollouts)]
    low, high = reward.range
    assert all(one is None or low - 1e-9 <= one <= high + 1e-9 for one in found)
    return found


# Signed geometric mean (Lucy-SKG)


def test_a_signed_mean_by_hand() -> None:
    mean = build_reward({"signed_geomean": [node("at", 0), node("at", 1)]})
    rows = [(0.25, 1.0), (-0.25, 1.0), (-0.25, -1.0), (0.0, 0.7), (0.3, 0.3), (None, -0.5)]
    wanted = [0.5, -0.5, -0.5, 0.0, 0.3, -0.5]
    assert values(mean, answers(rows)) == pytest.approx(wanted)
    assert mean.range == (-1.0, 1.0)


@given(signed, signed, signed)
def test_one_bad_part_is_enough(a: float, b: float, c: float) -> None:
    mean = build_reward({"signed_geomean": [node("at", i) for i in range(3)]})
    (value,) = values(mean, answers([(a, b, c)]))
    assert value is not None
    assert (value > 0) == (min(a, b, c) > 0) or value == 0.0
    (same,) = values(mean, answers([(a, a, a)]))
    assert same == pytest.approx(a, abs=1e-12)


# Progress (CaRL)


def progress(**options: Any) -> Reward:
    return build_reward({
        "progress": {
            "of": node("share", 0),
            "penalties": [node("share", 1), node("share", 2)],
            "required": [node("share", 3)],
            **options,
        }
    })  # fmt: skip


def test_progress_by_hand() -> None:
    rows = [
        (0.8, 1.0, 1.0, 1.0),  # nothing wrong
        (0.8, 0.5, 0.5, 1.0),  # two penalties
        (0.8, 1.0, 1.0, 0.9),  # a hard fault
        (0.8, 0.0, 1.0, 0.0),  # both
        (0.8, None, 0.5, None),  # what does not apply is neutral
        (None, 1.0, 1.0, 1.0),
    ]
    found = values(progress(terminal=2.0), answers(rows))
    assert found == [0.8, 0.2, pytest.approx(-1.2), -2.0, 0.4, None]
    assert progress(terminal=2.0).range == (-2.0, 1.0)


def in_stages(steps: Sequence[Sequence[float]]) -> list[Rollout]:
    """An answer of several steps."""
    (rollout,) = answers([steps[-1]])
    rollout.parsed = SimpleNamespace(
        output=tuple(steps[-1]), stages=tuple(SimpleNamespace(output=tuple(s)) for s in steps)
    )
    return [rollout]


def test_a_hard_fault_ends_the_episode() -> None:
    """Progress after it is worth nothing; progress that is lost and made again is paid once."""
    fine = (1.0, 1.0, 1.0)
    node = progress(by_stage=True, terminal=0.5)
    assert values(node, in_stages([(0.2, *fine), (0.6, *fine)])) == pytest.approx([0.6])
    assert values(node, in_stages([(0.2, *fine), (0.6, 0.5, 1.0, 1.0)])) == pytest.approx([0.4])
    ends = [(0.2, 1.0, 1.0, 0.0), (0.9, *fine)]
    assert values(node, in_stages(ends)) == pytest.approx([0.2 - 0.5])
    assert values(node, in_stages([*ends, (1.0, *fine)])) == pytest.approx([0.2 - 0.5])
    again = [(0.6, *fine), (0.1, *fine), (0.6, *fine)]
    assert values(node, in_stages(again)) == pytest.approx([0.6])
    assert node.range == (-0.5, 1.0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_penalty_of_one_is_neutral(made: float, penalty: float) -> None:
    both, alone = values(progress(), answers([(made, 1.0, penalty, 1.0), (made, penalty, None, 1)]))
    assert both == alone == pytest.approx(made * penalty)


# Hierarchy (HERON)


def hierarchy(margins: Any = 0.0, **options: Any) -> Reward:
    factors = {"first": node("at", 0), "second": node("at", 1), "third": node("at", 2)}
    return build_reward({"hierarchy": {"factors": factors, "margins": margins, **options}})


def test_a_hierarchy_by_hand() -> None:
    """The first factor decides but between rows 1 and 2, which are within its margin of 0.3."""
    D = compared(np.array([[0.9, 0.0], [0.5, 0.1], [0.4, 0.8]]), np.array([0.3, 0.0]))
    assert D.tolist() == [[0, 1, 1], [-1, 0, -1], [-1, 1, 0]]
    rows = [(0.9, 0.0, 0.0), (0.5, 0.1, 0.0), (0.4, 0.8, 0.0)]
    rates = values(hierarchy({"first": 0.3}, reduce="win_rate"), answers(rows))
    assert rates == [1.0, 0.0, 0.5]
    strengths = values(hierarchy({"first": 0.3}), answers(rows))
    assert sorted(range(3), key=lambda i: -(strengths[i] or 0.0)) == [0, 2, 1]
    assert math.fsum(s for s in strengths if s is not None) == pytest.approx(0.0)
    less = values(hierarchy(reduce="strict", lower_is_better=["first"]), answers(rows))
    assert less == [0.0, 0.5, 1.0]


@given(st.lists(st.tuples(signed, signed, signed), min_size=3, max_size=5), st.floats(0, 0.5))
def test_what_a_comparison_keeps(rows: list[tuple[float, ...]], margin: float) -> None:
    """Antisymmetric; a lower factor never flips a decided pair; without margins no circles."""
    factors = np.array(rows)
    D = compared(factors, np.array([margin, 0.0, 0.0]))
    assert np.array_equal(D, -D.T, equal_nan=True)
    changed = factors.copy()
    changed[:, 1:] = -changed[:, 1:] + 0.1
    by_first = np.abs(factors[:, :1] - factors[:, 0]) > margin
    assert np.array_equal(D[by_first], compared(changed, np.array([margin, 0.0, 0.0]))[by_first])
    order = compared(factors, np.zeros(3))
    for i, j, k in permutations(range(len(rows)), 3):
        assert not (order[i, j] > 0 and order[j, k] > 0 and order[k, i] > 0)


def test_with_margins_comparisons_go_round_in_circles() -> None:
    """So strict order is refused there, and a fit gives numbers all the same."""
    rng = np.random.default_rng(0)
    circles = 0
    for _ in range(1000):
        D = compared(rng.random((3, 2)), np.array([0.3, 0.0]))
        circles += int(abs(D[0, 1] + D[1, 2] + D[2, 0]) == 3)
    assert circles > 10
    rows = [(0.0, 0.9, 0.0), (0.2, 0.5, 0.0), (0.4, 0.1, 0.0)]
    assert all(map(math.isfinite, values(hierarchy({"first": 0.3}), answers(rows))))  # type: ignore[arg-type]


def test_a_head_learns_the_order_and_goes_on_to_the_last_bit() -> None:
    """The first factor, whatever the second is; state through torch's own file."""
    head = {"lr": 0.05, "num_updates": 5}
    learnt, resumed = (hierarchy(reduce="head", head=head) for _ in range(2))
    assert isinstance(learnt, TrainableReward)
    assert isinstance(resumed, TrainableReward)
    rng = np.random.default_rng(0)
    assert values(learnt, answers([(0.1, 0.2, 0.3), (0.3, 0.2, 0.1)])) == [0.0, 0.0]
    for _ in range(20):
        group = answers(rng.uniform(-1, 1, (6, 3)).tolist())
        learnt(group)
        metrics = learnt.update(group)
    assert metrics["accuracy"] > 0.9
    better, worse = values(learnt, answers([(0.6, -0.9, 0.0), (-0.6, 0.9, 0.0)]))
    assert better is not None
    assert worse is not None
    assert better > worse
    learnt.update([])
    resumed.load_state_dict(json.loads("{}"))  # of a run that had seen no pair
    resumed.load_state_dict(learnt.state_dict())
    for reward in (learnt, resumed):
        reward(group)
        reward.update(group)
    again = answers(rng.uniform(-1, 1, (4, 3)).tolist())
    learnt.pending.clear()  # type: ignore[attr-defined]
    assert values(learnt, again) == values(resumed, again)


# Blend (BARFI)


def blend(**options: Any) -> Blend:
    made = build_reward({
        "blend": {
            "primary": node("at", 0),
            "helpers": {"help": node("at", 1)},
            "held_out": 0.5,
            **options,
        }
    })  # fmt: skip
    assert isinstance(made, Blend)
    return made


def test_a_blend_by_hand() -> None:
    """Group s0 is learnt from, s3 is held out: there corr = cov / (std std) = 0.8 / 0.8."""
    made = blend(lr=0.1, decay=0.5)
    assert [made.is_held_out(f"s{i}") for i in range(4)] == [False, False, False, True]
    found = values(made, [*answers([(0.5, 0.2)]), *answers([(0.0, 0.1), (0.8, 0.5)], group=3)])
    assert found == [0.6, None, None]
    metrics = made.update([])
    assert metrics["help_correlation"] == pytest.approx(1.0)
    assert made.weights == pytest.approx([0.5 + 0.1 * (1 - 0.5 * 0.5)])
    assert made.update([])["help_weight"] == made.weights[0]  # nothing seen, nothing moved


PRIMARY = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])


@functools.cache
def trained(helper: str, start: float = 0.5) -> tuple[float, float]:
    """A softmax policy over 6 answers that follows the blend: its primary return, and the weight.

    The policy takes 60 steps; then it rests, and the weight goes on for 60.
    """
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(6, generator=random)
    other = {"none": 0 * PRIMARY, "minus": -PRIMARY, "same": PRIMARY, "noise": noise}[helper]
    made = blend(start=start)
    logits = torch.zeros(6)
    for step in range(120):
        picks = torch.multinomial(logits.softmax(0), 16, replacement=True, generator=random)
        rows = [(float(PRIMARY[a]), float(other[a])) for a in picks]
        found = made([*answers(rows, group=0), *answers(rows, group=3)])
        rewards = torch.tensor([one.value for one in found[:16]])
        centred = rewards - rewards.mean()
        pull = torch.zeros(6).index_add(0, picks, centred) / 16
        if step < 60:
            logits += 0.5 * (pull - logits.softmax(0) * pull.sum())
        made.update([])
    return float((logits.softmax(0) * PRIMARY).sum()), made.weights[0]


@pytest.mark.parametrize(
    ("helper", "start", "ends", "lost"),
    [
        ("minus", 0.5, 0.0, 0.01),  # what the steps cost in which its weight falls to 0
        ("minus", 0.0, 0.0, 0.0),
        ("same", 0.5, 1.0, 0.0),
        ("noise", 0.5, None, 0.0),
    ],
)
def test_the_primary_is_not_below_that_of_a_run_without_helpers(
    helper: str, start: float, ends: float | None, lost: float
) -> None:
    """A helper that is minus the primary ends at weight 0."""
    alone, _ = trained("none")
    found, weight = trained(helper, start)
    assert found >= alone - lost
    assert ends is None or weight == ends
    assert alone > float(PRIMARY.mean())


def test_a_blend_is_saved_and_counts_steps_without_a_held_out_prompt() -> None:
    made, resumed = blend(), blend()
    made(answers([(0.0, 0.1), (0.8, -0.5), (0.1, 0.1)], group=3))
    made.update([])
    resumed.load_state_dict(json.loads(json.dumps(made.state_dict())))
    assert resumed.weights == made.weights
    for _ in range(49):
        resumed.update([])
    with pytest.raises(RewardError, match="none of the prompts of the last 50 steps is held out"):
        resumed.update([])
    with pytest.raises(RewardError, match="the saved weights are of other, the config has help"):
        made.load_state_dict({"weights": {"other": 1.0}, "unjudged": 0})


# Several accepted answers (GRiP)


def test_the_best_of_accepted_answers_by_hand() -> None:
    made = build_reward({
        "any_of": {
            "of": [{"use": "test_joining_nodes:near"}],
            "over": "routes",
            "as": "route",
            "correct": node("share", 1),
        }
    })  # fmt: skip
    routes = {"routes": [0.1, 0.9]}
    rows = [(0.2, 1.0), (0.8, 0.5), (0.5, 0.0), (0.5, None)]
    found = values(made, answers(rows, columns=routes))
    assert found == [pytest.approx(0.9), pytest.approx(0.45), 0.0, None]
    assert values(made, answers([(0.2, 1.0)], columns={"routes": []})) == [None]
    fewer = [*answers([(0.2, 1.0)], columns=routes), *answers([(0.2, 1.0)], 1, {"routes": [0.0]})]
    assert values(made, fewer) == pytest.approx([0.9, 0.8])
    with pytest.raises(RewardError, match="sample 's0' has no column 'routes'"):
        made(answers([(0.2, 1.0)]))
    with pytest.raises(RewardError, match="must be a list of accepted answers, not 'A'"):
        made(answers([(0.2, 1.0)], columns={"routes": "A"}))


# Details and difficulty (RewardMap)


def test_details_by_hand() -> None:
    made = build_reward({
        "detail": {
            "correct": node("share", 0),
            "parts": [node("share", 1), {**node("share", 2), "weight": 3.0}],
        }
    })  # fmt: skip
    rows = [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, None, 0.5), (1.0, 0.0, 0.0)]
    found = values(made, answers([*rows, (0.0, None, None), (1.0, None, None)]))
    # Questions without details are not worth more than they were without this node.
    assert found == [0.125, 0.375, 0.25, 1.5, 0.0, 1.0]
    assert made.range == (0.0, 1.5)


@given(st.integers(0, 6), st.floats(0, 1), st.floats(0, 1))
def test_a_right_route_has_all_its_details(transfers: int, a: float, b: float) -> None:
    """However many transfers it has; and it is worth more than any wrong answer."""
    made = build_reward({
        "difficulty": {
            "of": {"detail": {"correct": node("share", 0), "parts": [node("share", 1)]}},
            "weights": {"map": {"hard": 1.5}, "transfers": {0: 0.0, "*": 0.5}},
        }
    })  # fmt: skip
    columns = {"map": "hard", "transfers": transfers}
    right, wrong = values(made, answers([(1.0, a), (0.0, b)], columns=columns))
    assert right == made.range[1] * (1.0 if transfers else 0.75)
    assert wrong is not None
    assert right is not None
    assert right > wrong


def test_difficulty_by_hand() -> None:
    weights = {"map": {"easy": 1.0, "hard": 1.5}, "long": {True: 0.5, False: 0.0}}
    made = build_reward({"difficulty": {"of": node("at"), "weights": weights}})
    hard = {"map": "hard", "long": True}
    assert values(made, answers([(0.5,), (-0.5,), (None,)], columns=hard)) == [1.0, -0.5, None]
    assert values(made, answers([(0.5,)], columns={"map": "easy", "long": False})) == [0.5]
    assert made.range == (-1.0, 2.0)
    both = {"difficulty": {"of": node("at"), "weights": weights, "penalties_too": True}}
    assert values(build_reward(both), answers([(-0.5,)], columns=hard)) == [-1.0]
    with pytest.raises(RewardError, match="column 'map' of sample 's0' is 'odd', for which"):
        made(answers([(0.5,)], columns={"map": "odd", "long": True}))
    with pytest.raises(RewardError, match="has no column 'long'"):
        made(answers([(0.5,)], columns={"map": "easy"}))


FACTORS = {"a": node("at"), "b": node("at", 1)}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"progress": {"of": node("share"), "penalties": [node("at")]}},
            r"reward.progress: penalties\[0\]: must be a factor in \[0, 1\]; 'at' has the range",
        ),
        ({"progress": {"of": node("share"), "penalties": [{"use": "boxiou"}]}},
         r"reward.progress.penalties\[0\]: unknown reward 'boxiou'"),
        ({"hierarchy": {"factors": {"a": node("at")}}}, "reward.hierarchy.factors"),
        ({"hierarchy": {"factors": FACTORS, "margins": {"c": 0.1}}},
         "reward.hierarchy: `margins` names no factor 'c'"),
        ({"hierarchy": {"factors": FACTORS, "lower_is_better": ["c"]}},
         "reward.hierarchy: `lower_is_better` names no factor 'c'"),
        ({"hierarchy": {"factors": FACTORS, "margins": 0.1, "reduce": "strict"}},
         "reward.hierarchy: `reduce: strict` needs margins of 0"),
        ({"hierarchy": {"factors": {**FACTORS, "b": {"use": "boxiou"}}}},
         "reward.hierarchy.factors.b: unknown reward 'boxiou'"),
        # Held-out prompts, to which it does not apply, would be paid for by the others.
        ({"sum": [node("at"), {"blend": {"primary": node("at"), "helpers": FACTORS,
                                         "held_out": 0.5}}]},
         r"reward.sum\[1\]: 'blend' must be the root of the tree"),
        ({"blend": {"primary": node("at"), "helpers": FACTORS}},
         "reward.blend: `held_out:` must be a share of the prompts"),
        ({"blend": {"primary": node("at"), "helpers": FACTORS, "held_out": 1.5}},
         "reward.blend.held_out"),
        ({"blend": {"primary": node("at"), "helpers": FACTORS, "held_out": 0.5, "start": 2.0}},
         "reward.blend: start .2. is above most"),
        ({"any_of": {"of": [node("at")]}}, "reward.any_of: `of:` has one node"),
        ({"any_of": {"of": [node("at")], "over": "routes"}}, "`over:` and `as:` go together"),
        ({"detail": {"correct": node("at"), "parts": [{**node("at"), "weight": 0.0}]}},
         r"reward.detail: parts\[0\]: its weight must be above 0"),
        ({"difficulty": {"of": node("at"), "weights": {"map": {}}}},
         "reward.difficulty: weights.map: must have a weight for each value"),
        ({"difficulty": {"of": node("at"), "weights": {"map": {"a": 0}}}},
         "weights: must have one above 0"),
    ],
)  # fmt: skip
def test_a_wrong_node_is_refused_with_its_place(tree: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_reward(tree)
