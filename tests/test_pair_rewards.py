"""Comparisons in a group: reducers, Think-RM's advantage, ranks; the judge's answer; health."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vlrl.algo.advantages import advantages
from vlrl.errors import ConfigError
from vlrl.judge.reasoned_answer import parse_judge_answer, swapped
from vlrl.log.metrics import Meter
from vlrl.protocols import Reward
from vlrl.reward.combinators import pair_statistics as pairs
from vlrl.reward.combinators.pair import Pair, chosen_pairs
from vlrl.reward.tree import build_reward
from vlrl.train.health import agreement, gain, record_canary, record_health, saturated
from vlrl.types import Finish, Rollout, Sample, Score

values = st.lists(st.floats(-20, 20), min_size=2, max_size=9)


@given(r=values)
def test_think_rm_of_scalars_is_the_group_z_score(r):
    """Equal to GRPO's advantage with unbiased deviation; both eps at 0."""
    assume(np.std(r) > 1e-3)
    A = pairs.pairwise_advantage(pairs.differences(np.array(r)), eps=0.0)
    group = torch.zeros(len(r), dtype=torch.long)
    z = advantages(torch.tensor(r, dtype=torch.float64), group, "group_zscore", eps=0.0)
    assert A.tolist() == pytest.approx(z.tolist(), abs=1e-5)
    centred = np.array(r) - np.mean(r)
    assert pytest.approx(centred / np.std(r, ddof=1), abs=1e-9) == A


@given(r=values, seed=st.integers(0, 99))
def test_permuting_the_group_permutes_the_advantages(r, seed):
    D = np.sign(pairs.differences(np.array(r)))
    order = np.random.default_rng(seed).permutation(len(r))
    for reduce in (pairs.pairwise_advantage, pairs.mean_preference, pairs.win_rate):
        assert reduce(D[np.ix_(order, order)]).tolist() == reduce(D)[order].tolist()


def test_ties_have_no_advantage():
    assert pairs.pairwise_advantage(np.zeros((4, 4))).tolist() == [0.0] * 4
    assert pairs.pairwise_advantage(np.zeros((4, 4)), eps=0.0).tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="every pair"):
        pairs.pairwise_advantage(np.array([[0, np.nan], [np.nan, 0]]))
    with pytest.raises(ValueError, match="antisymmetric"):
        pairs.check_antisymmetric(np.ones((2, 2)))


@given(s=st.lists(st.floats(-3, 3), min_size=2, max_size=7))
def test_bradley_terry_finds_the_strengths_again(s):
    P = 1 / (1 + np.exp(-pairs.differences(np.array(s))))
    found = pairs.bradley_terry(P, ridge=1e-9)
    assert found.tolist() == pytest.approx((np.array(s) - np.mean(s)).tolist(), abs=1e-4)


def test_bradley_terry_of_one_sided_and_missing_comparisons_is_finite():
    always = np.array([[np.nan, 1.0, 1.0], [0.0, np.nan, 1.0], [0.0, 0.0, np.nan]])
    s = pairs.bradley_terry(always)
    assert np.isfinite(s).all()
    assert s[0] > s[1] > s[2]
    apart = np.full((3, 3), np.nan)
    assert pairs.bradley_terry(apart).tolist() == [0.0] * 3
    # A cycle has no order: all are equal.
    cycle = np.array([[np.nan, 1, 0], [0, np.nan, 1], [1, 0, np.nan]])
    assert pairs.bradley_terry(cycle) == pytest.approx([0, 0, 0], abs=1e-9)


def test_a_hand_worked_table():
    D = np.array([[0, 1, -1, 1], [-1, 0, 1, 0], [1, -1, 0, 1], [-1, 0, -1, 0]], dtype=float)
    assert pairs.mean_preference(D) == pytest.approx([1 / 3, 0, 1 / 3, -2 / 3])
    assert pairs.win_rate(D) == pytest.approx([2 / 3, 0.5, 2 / 3, 1 / 6])
    spread = math.sqrt(10 / (2 * 4 * 3))
    assert pairs.pairwise_advantage(D, 0.0) == pytest.approx(
        [0.25 / spread, 0, 0.25 / spread, -0.5 / spread]
    )


def length(rollout) -> float | None:
    """A scalar reward; does not apply to an empty answer."""
    return float(len(rollout.output)) if rollout.output else None


def answers(*texts: str, group: int = 0) -> list[Rollout]:
    sample = Sample(f"s{group}", "words", (), None)
    return [
        Rollout(sample, group, i, text, Finish.STOP, 1, 0, parsed=text)
        for i, text in enumerate(texts)
    ]


LENGTH = {"use": f"{__name__}:length"}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[length.__module__])


def node_values(node, rollouts):
    return [score.value for score in build_reward(node)(rollouts)]


def test_pair_nodes_on_a_scalar_reward():
    rollouts = [*answers("a", "abc", "abcde", ""), *answers("xy", group=1)]
    mean = node_values({"pair": {"of": LENGTH}}, rollouts)
    assert mean[:3] == [-3.0, 0.0, 3.0]
    assert mean[3:] == [None, None]
    assert node_values({"pair": {"of": LENGTH, "reduce": "win_rate"}}, rollouts)[:3] == [0, 0.5, 1]
    think = node_values({"pair": {"of": LENGTH, "reduce": "think_rm", "eps": 0.0}}, rollouts)
    assert think[:3] == pytest.approx([-1.0, 0.0, 1.0])
    fit = node_values({"pair": {"of": LENGTH, "reduce": "bradley_terry"}}, rollouts)
    assert fit[0] < fit[1] < fit[2]
    given_advantage = advantages(
        torch.tensor([-1.0, 0.0, 1.0, math.nan]), torch.zeros(4, dtype=torch.long), "precomputed"
    )
    assert given_advantage.tolist() == [-1.0, 0.0, 1.0, 0.0]


def test_group_nodes_see_only_the_order():
    rollouts = [*answers("a", "abc", "abc", "abcde", ""), *answers("xy", group=1)]
    rank = node_values({"group": {"of": LENGTH, "to": "rank"}}, rollouts)
    assert rank == [0.0, 0.5, 0.5, 1.0, None, None]
    best = node_values({"group": {"of": LENGTH, "to": "best"}}, rollouts)
    assert best == [0.0, 0.0, 0.0, 1.0, None, None]
    assert node_values({"group": {"of": LENGTH, "to": "centre"}}, rollouts)[:4] == [-2, 0, 0, 2]


def test_a_ring_compares_each_with_as_many():
    assert len(chosen_pairs(6, 0)) == 15
    ring = chosen_pairs(6, 2)
    assert len(ring) == len(set(ring)) == 12
    assert all(sum(i in pair for pair in ring) == 4 for i in range(6))
    assert chosen_pairs(4, 2) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


class Longer(Reward):
    """Compares two answers by their length, and records which ones."""

    name, needs, range = "longer", frozenset(), (-9.0, 9.0)

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, rollouts):
        return [Score(length(rollout)) for rollout in rollouts]

    def preferences(self, asked):
        self.asked += [(a.output, b.output) for a, b in asked]
        return [float(len(a.output) - len(b.output)) for a, b in asked]


@given(order=st.permutations(range(5)))
def test_the_ring_hangs_on_the_index_and_not_on_the_batch(order):
    rollouts = answers("a", "abcd", "ab", "abcdefg", "abc")
    shuffled = [rollouts[i] for i in order]
    node = {"pair": {"of": LENGTH, "mates": 1}}
    wanted = node_values(node, rollouts)
    assert wanted == [-2.5, 2.5, -3.5, 4.5, -1.0]
    assert node_values(node, shuffled) == [wanted[i] for i in order]
    comparer = Longer()
    pair = Pair(comparer, mates=1)
    assert [score.value for score in pair(shuffled)] == [wanted[i] for i in order]
    ring = [("a", "abcd"), ("a", "abc"), ("abcd", "ab"), ("ab", "abcdefg"), ("abcdefg", "abc")]
    assert comparer.asked == ring


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"pair": {"of": LENGTH, "reduce": "meen"}}, "did you mean 'mean'"),
        ({"pair": {"of": LENGTH, "mats": 1}}, "did you mean 'mates'"),
        ({"pair": {"reduce": "mean"}}, "`of:`"),
        ({"pair": {"of": LENGTH, "reduce": "think_rm", "mates": 2}}, "all pairs"),
        ({"pair": {"of": LENGTH, "eps": -1}}, "pair.eps: must be at least 0, not -1"),
        ({"group": {"of": LENGTH, "to": "ranks"}}, "did you mean 'rank'"),
        ({"group": LENGTH}, "`of:`"),
    ],
)
def test_nodes_that_cannot_be_meant(node, said):
    with pytest.raises(ConfigError, match=said):
        build_reward(node)


GOOD = """<think>
1. Semantic consistency: Image 1 (8/10) - has it; Image 2 (5/10) - has not
2. Aesthetics: Image 1 (7/10) - good; Image 2 (6/10) - fair
Total score: Image 1: 15, Image 2: 11
</think>
<answer>Image 1 is better</answer>"""


def test_unified_reward_think_is_read():
    answer = parse_judge_answer(GOOD)
    assert answer.verdict == 1
    assert answer.well_formed
    assert answer.scores == {"Semantic consistency": (8, 5), "Aesthetics": (7, 6)}
    assert answer.totals == (15, 11)
    assert not answer.contradicts


def test_scores_are_read_whatever_the_case_of_the_thinkings_marks():
    answer = parse_judge_answer(GOOD.replace("think>", "THINK>"))
    assert answer.scores == parse_judge_answer(GOOD).scores
    assert not answer.well_formed


def test_what_makes_an_answer_ill_formed():
    for text in (
        GOOD + " I am sure.",
        "Sure! " + GOOD,
        GOOD.replace("<think>", ""),
        GOOD.replace("Image 1 is better", "Image 3 is better"),
        GOOD.replace("Image 1 is better", "Image 1 is better, Image 2 is better"),
        GOOD + GOOD,
        GOOD.replace("<answer>", "<answer><answer>"),
        "",
    ):
        assert not parse_judge_answer(text).well_formed, text
    # A missing tag does not fall back to the whole text.
    assert parse_judge_answer("Image 2 is better").verdict is None
    assert parse_judge_answer(GOOD + " well").verdict == 1


def test_swapping_the_inputs_swaps_the_verdict_and_a_contradiction_shows():
    back = parse_judge_answer(swapped(GOOD))
    assert back.verdict == 2
    assert back.totals == (11, 15)
    assert not back.contradicts
    wrong = parse_judge_answer(GOOD.replace("<answer>Image 1", "<answer>Image 2"))
    assert wrong.well_formed
    assert wrong.contradicts


def test_only_ascii_digits_make_a_score():
    answer = parse_judge_answer(GOOD.replace("Image 1 (8/10)", "Image 1 (٨/10)"))
    assert answer.scores == {"Aesthetics": (7, 6)}
    assert parse_judge_answer(GOOD.replace("(8/10)", "(8.٥/10)")).totals == (7, 6)


@given(text=st.text(max_size=80))
def test_any_text_is_read_without_an_error(text):
    for whole in (text, f"<think>{text}</think><answer>{text}</answer>"):
        parse_judge_answer(whole)


def scored(*groups: tuple[float | None, ...]) -> list[Rollout]:
    rollouts = []
    for g, own in enumerate(groups):
        for rollout, value in zip(answers(*"x" * len(own), group=g), own, strict=True):
            parts = {} if value is None else {"box_iou": value}
            rollout.score = Score(value, parts)
            rollouts.append(rollout)
    return rollouts


def world():
    from vlrl.distributed.comm import World

    return World(0, 1, torch.device("cpu"))


def test_health_of_a_reward():
    meter = Meter()
    reward = build_reward({"use": "box_iou"})
    record_health(meter, reward, scored((0.0, 1.0), (0.5, 0.5), (0.2, None)))
    metrics = meter.reduce(world())
    assert metrics["reward_health/box_iou_group_std"] == pytest.approx(math.sqrt(0.5) / 2)
    assert metrics["reward_health/box_iou_zero_variance"] == 0.5
    assert metrics["reward_health/box_iou_saturated"] == pytest.approx(2 / 5)
    assert saturated([9.0, -9.0], (-math.inf, 9.0)) == [False, False]


def test_a_canary_that_sees_what_the_reward_sees_has_no_gap():
    rng = random.Random(0)
    same = [tuple(rng.random() for _ in range(8)) for _ in range(40)]
    rollouts = scored(*same)
    own = [value for group in same for value in group]
    metrics = {}
    for name, canary in {
        "same": [3 * value + 1 for value in own],
        "noise": [rng.random() for _ in own],
        "against": [-value for value in own],
        "absent": [math.nan] * len(own),
    }.items():
        meter = Meter()
        record_canary(meter, name, canary, rollouts)
        metrics |= meter.reduce(world())
    assert metrics["canary/same_agreement"] == 1.0
    assert metrics["canary/same_gap"] == pytest.approx(0.0, abs=1e-9)
    assert 0.4 < metrics["canary/noise_agreement"] < 0.6
    assert abs(metrics["canary/noise_gain"]) < 0.5 < 1 < metrics["canary/noise_gap"]
    assert metrics["canary/against_agreement"] == 0.0
    assert metrics["canary/against_gap"] > 2.0
    assert "canary/absent" not in metrics


def test_ties_and_flat_groups_tell_nothing():
    assert agreement(np.array([1.0, 1.0]), np.array([0.0, 1.0])) == []
    assert gain(np.array([1.0, 1.0]), np.array([0.0, 1.0])) is None
    assert gain(np.array([0.0, 1.0]), np.array([2.0, 2.0])) == 0.0
    assert gain(np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0])) == pytest.approx(0.5)
