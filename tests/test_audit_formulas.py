"""Distances, stability, ranks and hacks: tables worked by hand, and what always holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlrl.audit.distance import advantage_change, canonical, orders, starc, starc_by_prompt
from vlrl.audit.hacks import find_hacks, quantiles
from vlrl.audit.one_right import Row, one_right
from vlrl.audit.stability import greedy, stability, tilted, tilts, total_variation, tv_bound

GROUP = np.array([0, 0, 1, 1, 1])
FIRST = np.array([1.0, 3.0, 0.0, 0.0, 3.0])
NAN = math.nan


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


# --- distance ----------------------------------------------------------------------------------


def test_the_canonical_form_by_hand() -> None:
    # Means 2 and 1; centred -1, 1 and -1, -1, 2; mean squares 1 and 2; norm sqrt(1.5).
    wanted = column(-1, 1, -1, -1, 2) / math.sqrt(1.5)
    assert canonical(FIRST, GROUP) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("second", "wanted"),
    [
        (FIRST, 0.0),
        (-FIRST, 1.0),
        (2 * FIRST + column(5, 5, -7, -7, -7), 0.0),
        (column(4, 4, 9, 9, 9), 0.5),  # tells no answers apart
        # Centred -1, 1 and 1, 1, -2, norm sqrt(1.5): mean products 1 and -2, r = -0.5 / 1.5.
        (column(0, 2, 3, 3, 0), math.sqrt((1 + 1 / 3) / 2)),
        # Centred -2, 2 and 0, 2, -2, mean squares 4 and 8 / 3; mean products 2 and -2: r = 0.
        (column(0, 4, 2, 4, 0), math.sqrt(1 / 2)),
    ],
    ids=["itself", "negated", "scaled and shifted", "constant", "half opposite", "unrelated"],
)
def test_the_distance_by_hand(second: np.ndarray, wanted: float) -> None:
    assert starc(FIRST, second, GROUP) == pytest.approx(wanted)


def test_answers_that_one_reward_does_not_score_are_left_out() -> None:
    second = column(NAN, 3, 3, 0, NAN)
    # The first group has one answer left; of the second the first reward pays both alike.
    assert starc(FIRST, second, GROUP) == 0.5
    assert list(starc_by_prompt(FIRST, second, GROUP)) == [1]
    assert math.isnan(starc(FIRST, column(NAN, 1, NAN, 1, NAN), GROUP))


numbers = st.floats(-100, 100)
rewards = arrays(np.float64, 12, elements=numbers)
groups = arrays(np.int64, 12, elements=st.integers(0, 3))


@given(rewards, groups, st.floats(0.01, 100), arrays(np.float64, 4, elements=numbers))
@settings(max_examples=60, deadline=None)
def test_positive_scales_and_shifts_of_prompts_are_no_distance(
    first: np.ndarray, group: np.ndarray, scale: float, shifts: np.ndarray
) -> None:
    if max(np.ptp(first[group == g]) for g in np.unique(group)) < 1e-3:
        return
    assert starc(first, scale * first + shifts[group], group) == pytest.approx(0, abs=1e-6)


@given(rewards, rewards, rewards, groups)
@settings(max_examples=60, deadline=None)
def test_it_is_a_pseudometric_between_0_and_1(
    first: np.ndarray, second: np.ndarray, third: np.ndarray, group: np.ndarray
) -> None:
    pairs = ((first, second), (second, third), (first, third))
    a, b, c = (starc(*pair, group) for pair in pairs)
    if math.isnan(a):
        return
    assert 0 <= a <= 1
    assert a == pytest.approx(starc(second, first, group))
    assert c <= a + b + 1e-9


# --- orders and advantages ---------------------------------------------------------------------


def test_pairs_in_another_order_by_hand() -> None:
    first, second = column(1, 2, 5, 4, 3), column(1, 2, 0, 1, 1)
    found = orders(first, second, GROUP, num_named=5)
    # Pairs: 0-1 alike; 2-3 and 2-4 reversed; 3-4 tied in the second.
    assert found.num_pairs == 4
    assert (found.alike, found.reversed, found.tied_in_one) == (0.25, 0.5, 0.25)
    (worst,) = found.worst
    assert (worst.better_by_first, worst.better_by_second) == (2, 4)


def test_what_a_swap_does_to_the_advantages_by_hand() -> None:
    group = np.array([0, 0])
    found = advantage_change(column(0, 2), column(1, 0), group, eps=0.0)
    assert found.first == pytest.approx(column(-1, 1) / math.sqrt(2), abs=1e-6)
    assert found.second == pytest.approx(column(1, -1) / math.sqrt(2), abs=1e-6)
    assert found.mean_change == pytest.approx(math.sqrt(2), abs=1e-6)
    assert found.turned == 1.0


# --- stability ---------------------------------------------------------------------------------


def test_tilted_and_greedy_policies_by_hand() -> None:
    p, r = column(0.5, 0.25, 0.25), column(0.0, math.log(2), math.log(2))
    assert tilted(r, p, 1.0) == pytest.approx([1 / 3] * 3)
    assert tilted(r, p, 0.5) == pytest.approx(column(0.5, 1, 1) / 2.5)
    assert greedy(r, p) == pytest.approx([0, 0.5, 0.5])
    assert total_variation(column(1, 0), column(0.25, 0.75)) == 0.75
    assert tv_bound(column(0.1, -0.3), 0.5) == pytest.approx(0.3)
    assert tv_bound(column(5, 0), 0.5) == 1.0


@given(
    arrays(np.float64, 6, elements=st.floats(-3, 3)),
    arrays(np.float64, 6, elements=st.floats(-1, 1)),
    arrays(np.float64, 6, elements=st.floats(0.01, 1)),
    st.floats(0.02, 5),
)
@settings(max_examples=200, deadline=None)
def test_the_bound_is_never_exceeded(
    own: np.ndarray, change: np.ndarray, reference: np.ndarray, beta: float
) -> None:
    p = reference / reference.sum()
    moved = total_variation(tilted(own, p, beta), tilted(own + change, p, beta))
    assert moved <= tv_bound(change, beta) + 1e-9


def test_the_bound_is_nearly_reached() -> None:
    p = column(0.5, 0.5)
    moved = total_variation(
        tilted(column(-0.05, 0.05), p, 1.0), tilted(column(0.05, -0.05), p, 1.0)
    )
    assert 0.99 < moved / tv_bound(column(0.1, -0.1), 1.0) <= 1


def test_a_tie_jumps_without_the_entropy_term_and_is_named() -> None:
    #                 a tie      one answer alone   a clear lead   all alike   the same twice
    rewards = column(1, 1, 0, 2, 2, 5, 0, 3, 3, 1, 1)
    group = np.array([0, 0, 0,    1, 1,              2, 2,          3, 3,       4, 4])  # fmt: skip
    answer = np.array([0, 1, 2,   3, 4,              5, 6,          7, 8,       9, 9])  # fmt: skip
    rewards[4] = 1.9995
    change = np.zeros((2, 11))
    change[0, 0], change[1, 4], change[1, 6] = 0.001, 0.001, 0.001
    found = {one.group: one for one in stability(rewards, rewards + change, group, answer, 1.0)}
    assert set(found) == {0, 1, 2, 3}
    assert [g for g, one in found.items() if one.is_tied] == [0]
    assert [g for g, one in found.items() if one.is_flipped] == [1]
    assert [found[g].jumped for g in found] == [0.5, 1.0, 0.0, 0.0]
    assert found[0].gap == 1.0
    assert found[1].gap == pytest.approx(0.0005)
    assert all(one.moved <= 0.0005 + 1e-9 for one in found.values())
    assert all(0 <= one.ratio <= 1 for one in found.values())


def test_a_policy_of_a_large_beta_is_stable_and_pays_less() -> None:
    rewards, group, answer = column(0, 1), np.array([0, 0]), np.array([0, 1])
    cold, warm = tilts(rewards, np.array([[1.0, 1.0]]), group, answer, (0.1, 10.0))
    assert cold.reward > warm.reward > 0.5
    assert cold.moved > warm.moved
    assert tilts(rewards, np.zeros((1, 2)), group, np.array([0, 0]), (1.0,)) == []


# --- one right against many wrong --------------------------------------------------------------


def test_one_right_against_many_by_hand() -> None:
    rows = [
        Row("first", 1.0, {"near": 0.5, "empty": 0.0}),
        Row("tied", 1.0, {"near": 1.0, "empty": 0.0}),
        Row("last", 0.0, {"near": 2.0, "empty": 0.0}),
    ]
    assert [row.rank for row in rows] == [1, 2, 3]
    assert rows[2].ahead_of_it == ("near", "empty")
    found = one_right(rows)
    assert found.accuracy["mean"] == pytest.approx(1 / 3)
    assert found.mrr["mean"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found.by_kind == pytest.approx({"near": 1 / 3, "empty": 2 / 3})
    assert found.chance == pytest.approx(1 / 3)


def test_a_constant_reward_is_never_right_and_a_rising_map_changes_nothing() -> None:
    wrong = {str(i): 0.5 for i in range(9)}
    assert one_right([Row("s", 0.5, wrong)]).accuracy["mean"] == 0
    assert one_right([Row("s", 0.5, wrong)]).mrr["mean"] == pytest.approx(0.1)
    rng = np.random.default_rng(0)
    drawn = [(float(r), {str(i): float(v) for i, v in enumerate(w)}) for r, w in (
        (rng.random(), rng.random(4)) for _ in range(20))]  # fmt: skip
    plain = one_right([Row("s", r, w) for r, w in drawn])
    risen = one_right([Row("s", r**3, {k: v**3 for k, v in w.items()}) for r, w in drawn])
    assert plain == risen
    with pytest.raises(ValueError, match="no row"):
        one_right([Row("s", 1.0, {})])


# --- hacks -------------------------------------------------------------------------------------


def test_quantiles_by_hand() -> None:
    assert quantiles(column(1, 2, 2, 4, NAN)) == pytest.approx(
        column(0, 0.5, 0.5, 1, NAN), nan_ok=True
    )
    assert quantiles(column(3)) == pytest.approx(column(0.5))


def test_hacks_are_the_best_answers_that_another_reward_dislikes() -> None:
    reward = column(9, 8, 8, 7, 1, 0, NAN, 9)
    other = column(0.0, 0.2, 1.0, 0.0, 0.9, 0.8, 0.0, NAN)
    prompt = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    found = find_hacks(reward, other, prompt, top_share=0.34, num=5)
    # Two of six, and the answer that ties with the second.
    assert set(found.top) == {0, 1, 2}
    assert found.disliked == (0, 1)
    assert found.rows == (0,)  # one per prompt
    assert find_hacks(reward, reward, prompt, top_share=0.34, num=5).rows == ()
    nothing = np.full(8, NAN)
    assert find_hacks(reward, nothing, prompt, top_share=0.34, num=5).top == ()
