"""The mathematics: hand-worked tables, plain references, invariances."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlrl.algo import aggregate
from vlrl.algo.advantages import (
    ADVANTAGES,
    advantages,
    difficulty_weight,
    group_statistics,
    zero_variance,
)
from vlrl.algo.kl import k1, k2, k3
from vlrl.algo.objectives import OBJECTIVES, ClipRange, cispo, clip, gspo

finite = st.floats(-100, 100, allow_nan=False, width=32)
groups = st.integers(2, 5).flatmap(
    lambda G: st.lists(st.lists(finite, min_size=G, max_size=G), min_size=1, max_size=4)
)


def flat(rows: list[list[float]]) -> tuple[Tensor, Tensor]:
    rewards = torch.tensor([v for row in rows for v in row])
    return rewards, torch.tensor([g for g, row in enumerate(rows) for _ in row])


@given(groups, st.booleans())
def test_group_zscore_is_the_plain_formula(rows: list[list[float]], population: bool) -> None:
    rewards, group = flat(rows)
    got = advantages(rewards, group, "group_zscore", eps=1e-4, population=population)
    plain = []
    for row in rows:
        x = torch.tensor(row, dtype=torch.float64)
        std = x.std(correction=0 if population else 1)
        plain += ((x - x.mean()) / (std + 1e-4)).tolist()
    assert torch.allclose(got, torch.tensor(plain).float(), atol=1e-4, rtol=1e-4)


@given(groups)
def test_leave_one_out_compares_with_the_others(rows: list[list[float]]) -> None:
    rewards, group = flat(rows)
    got = advantages(rewards, group, "leave_one_out").tolist()
    plain = [value - (sum(row) - value) / (len(row) - 1) for row in rows for value in row]
    assert got == pytest.approx(plain, abs=1e-3)


@given(groups, finite)
def test_no_advantage_sees_a_constant(rows: list[list[float]], shift: float) -> None:
    rewards, group = flat([[float(round(v)) for v in row] for row in rows])
    shift = round(shift)
    for kind in ADVANTAGES[:-1]:
        a = advantages(rewards, group, kind, batch_std=2.0)
        b = advantages(rewards + shift, group, kind, batch_std=2.0)
        assert torch.allclose(a, b, atol=1e-4)


@given(groups)
def test_a_group_depends_on_itself_alone(rows: list[list[float]]) -> None:
    rewards, group = flat(rows)
    for kind in ("group_zscore", "group_centre", "leave_one_out"):
        whole = advantages(rewards, group, kind)
        alone = torch.cat([advantages(*flat([row]), kind) for row in rows])
        assert torch.equal(whole, alone)


def test_rewards_that_do_not_apply_take_no_part() -> None:
    rewards = torch.tensor([1.0, math.nan, 3.0, math.nan, math.nan, 5.0])
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    for kind in ADVANTAGES[:-1]:
        got = advantages(rewards, group, kind, batch_std=1.0)
        assert got.isfinite().all()
        assert got[[1, 3, 4, 5]].tolist() == [0.0] * 4
        assert got[0] < 0 < got[2]
    _, _, count = group_statistics(rewards, group)
    assert count.tolist() == [2, 2, 2, 1, 1, 1]


def test_a_saturated_group_is_damped_and_found() -> None:
    rewards = torch.tensor([0.5, 0.5, 0.5, 0.5, 1.0, 0.0])
    group = torch.tensor([0, 0, 0, 0, 1, 1])
    assert advantages(rewards, group, "group_zscore")[:4].tolist() == [0.0] * 4
    assert zero_variance(rewards, group).tolist() == [True] * 4 + [False] * 2


def test_difficulty_weight_grows_as_targets_shrink() -> None:
    area = torch.tensor([0.05, 0.005, 0.00125, 1e-9, 0.0])
    got = difficulty_weight(area, reference=0.005, power=0.5, low=0.5, high=3.0)
    assert got.tolist() == pytest.approx([0.5, 1.0, 2.0, 3.0, 3.0])


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logp = -torch.rand(6, 5, generator=g) * 3
    old = logp + 0.5 * torch.randn(6, 5, generator=g)
    mask = torch.rand(6, 5, generator=g) > 0.3
    mask[:, 0] = True
    return logp.requires_grad_(), old, torch.randn(6, generator=g), mask


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_policy_every_objective_is_the_policy_gradient(name: str) -> None:
    logp, _, A, mask = random_case(0)
    result = OBJECTIVES[name](logp, logp.detach(), A, mask, ClipRange())
    assert torch.equal(result.ratio, torch.ones_like(logp))
    assert not result.clipped.any()
    total = aggregate.numerator(result.loss, mask, "sequence", torch.ones(6), 1)
    total.backward()
    length = mask.sum(1, keepdim=True)
    wanted = -A[:, None] * mask / length
    assert torch.allclose(logp.grad, wanted, atol=1e-6)


@given(st.integers(0, 200), st.floats(0, 0.5), st.floats(0, 0.5))
@settings(max_examples=40)
def test_clip_is_the_table_of_cases(seed: int, low: float, high: float) -> None:
    logp, old, A, mask = random_case(seed)
    result = clip(logp, old, A, mask, ClipRange(low, high))
    for b in range(6):
        for t in range(5):
            r, a = math.exp(float(logp[b, t].detach() - old[b, t])), float(A[b])
            kept = min(r, 1 + high) if a > 0 else max(r, 1 - low)
            assert float(result.loss[b, t]) == pytest.approx(-kept * a, rel=1e-4, abs=1e-5)


def test_gspo_has_one_ratio_a_sequence_the_geometric_mean() -> None:
    logp, old, A, mask = random_case(1)
    result = gspo(logp, old, A, mask, ClipRange(9.0, 9.0))
    for b in range(6):
        steps = [float(logp[b, t].detach() - old[b, t]) for t in range(5) if mask[b, t]]
        assert float(result.ratio[b, 0]) == pytest.approx(math.exp(sum(steps) / len(steps)))
        assert result.ratio[b].unique().numel() == 1


def test_cispo_never_loses_a_gradient() -> None:
    logp, old, A, mask = random_case(2)
    result = cispo(logp, old, A, mask, ClipRange(0.1, 0.1))
    result.loss.sum().backward()
    assert result.clipped.any()
    assert (logp.grad != 0).all()
    wanted = -result.ratio.clamp(0.9, 1.1) * A[:, None]
    assert torch.allclose(logp.grad, wanted)


@pytest.mark.parametrize("kind", aggregate.AGGREGATES)
@pytest.mark.parametrize("cuts", [[6], [1, 5], [2, 2, 2], [1] * 6])
def test_the_loss_is_the_same_for_any_cut_into_chunks(kind: str, cuts: list[int]) -> None:
    loss, _, _, mask = random_case(3)
    weight = torch.linspace(0.5, 2, 6)

    def total(parts: list[slice]) -> float:
        denominator = sum(float(aggregate.denominator(mask[p], kind)) for p in parts)
        sums = [aggregate.numerator(loss[p], mask[p], kind, weight[p], 64) for p in parts]
        return float(sum(sums).detach()) / denominator

    starts = [sum(cuts[:i]) for i in range(len(cuts))]
    parts = [slice(s, s + n) for s, n in zip(starts, cuts, strict=True)]
    assert total(parts) == pytest.approx(total([slice(0, 6)]), rel=1e-6)


def test_aggregates_by_hand() -> None:
    loss = torch.tensor([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    ones = torch.ones(2)

    def value(kind: str) -> float:
        top = aggregate.numerator(loss, mask, kind, ones, 64)
        return float(top / aggregate.denominator(mask, kind))

    assert value("sequence") == pytest.approx((1.5 + 4) / 2)
    assert value("token") == pytest.approx(7 / 3)
    assert value("constant") == pytest.approx((3 + 4) / 64 / 2)


def test_kl_estimators_agree_with_the_true_kl() -> None:
    torch.manual_seed(0)
    p = torch.distributions.Categorical(logits=torch.randn(7))
    q = torch.distributions.Categorical(logits=p.logits + 0.2 * torch.randn(7))
    x = p.sample((200_000,))
    true = float(torch.distributions.kl_divergence(p, q))
    for estimator in (k1, k3):
        assert float(estimator(p.log_prob(x), q.log_prob(x)).mean()) == pytest.approx(true, rel=0.1)
    assert (k3(p.log_prob(x), q.log_prob(x)) >= 0).all()
    assert float(k2(p.log_prob(x), q.log_prob(x)).mean()) == pytest.approx(true, rel=0.2)


def test_the_gradient_of_k2_is_that_of_the_true_kl() -> None:
    torch.manual_seed(1)
    logits = torch.randn(5, requires_grad=True)
    reference = torch.randn(5).log_softmax(0)
    logp = logits.log_softmax(0)
    exact = (logp.exp() * (logp - reference)).sum()
    (wanted,) = torch.autograd.grad(exact, logits, retain_graph=True)
    # The expectation over all actions, exactly.
    estimate = (logp.detach().exp() * k2(logp, reference)).sum()
    (got,) = torch.autograd.grad(estimate, logits)
    assert torch.allclose(got, wanted, atol=1e-6)


def test_k3_survives_an_action_that_the_reference_finds_far_likelier() -> None:
    assert k3(torch.tensor([-200.0]), torch.tensor([-1.0])).isfinite().all()


def test_k3_by_hand() -> None:
    """Twice the reference's probability: d = log 2, exp(-d) + d - 1 = log 2 - 1/2."""
    half, quarter = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    assert float(k3(half, quarter)) == pytest.approx(math.log(2) - 0.5, rel=1e-5)
    # And half the probability: d = -log 2, 2 - log 2 - 1.
    assert float(k3(quarter, half)) == pytest.approx(1 - math.log(2), rel=1e-5)


LOW, HIGH = 0.4, 0.1
RATIOS = (0.5, 0.7, 1.0, 1.3)
CLIPPED = {
    "clip": {1.0: (False, False, False, True), -1.0: (True, False, False, False)},
    "gspo": {1.0: (False, False, False, True), -1.0: (True, False, False, False)},
    "cispo": {1.0: (True, False, False, True), -1.0: (True, False, False, True)},
    "likelihood": {1.0: (False,) * 4, -1.0: (False,) * 4},
}
"""Where the bounds 0.6 and 1.1 clip, for both signs of the advantage."""
KEPT = {
    "clip": {1.0: (0.5, 0.7, 1.0, 1.1), -1.0: (0.6, 0.7, 1.0, 1.3)},
    "gspo": {1.0: (0.5, 0.7, 1.0, 1.1), -1.0: (0.6, 0.7, 1.0, 1.3)},
    "cispo": {1.0: (0.6, 0.7, 1.0, 1.1), -1.0: (0.6, 0.7, 1.0, 1.1)},
    "likelihood": {1.0: (1.0,) * 4, -1.0: (1.0,) * 4},
}
"""The ratio that stays in the loss."""


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_off_policy_cases_by_hand(name: str, sign: float) -> None:
    """One row per ratio, three slots, the last one after the answer's end."""
    ratio = torch.tensor(RATIOS)[:, None].expand(4, 3).clone()
    ratio[:, 2] = 50.0
    logp = torch.tensor([[-0.5, -1.5, -2.0]]).expand(4, 3).clone().requires_grad_()
    old = logp.detach() - ratio.log()
    if name == "gspo":
        # Two actions with one geometric mean between them.
        old = old + torch.tensor([0.3, -0.3, 0.0])
    mask = torch.tensor([[True, True, False]]).expand(4, 3)
    A = torch.full((4,), 2.0 * sign)
    result = OBJECTIVES[name](logp, old, A, mask, ClipRange(LOW, HIGH))
    (gradient,) = torch.autograd.grad((result.loss * mask).sum(), logp)
    for b, (kept, clipped) in enumerate(zip(KEPT[name][sign], CLIPPED[name][sign], strict=True)):
        for t in range(2):
            assert float(result.ratio[b, t]) == pytest.approx(RATIOS[b], rel=1e-5)
            factor = float(logp[b, t].detach()) if name in ("cispo", "likelihood") else 1.0
            assert float(result.loss[b, t].detach()) == pytest.approx(
                -2 * sign * kept * factor, rel=1e-5
            )
            loses = clipped and name != "cispo"
            wanted = 0.0 if loses else -2 * sign * kept
            assert float(gradient[b, t]) == pytest.approx(wanted, rel=1e-5)
        assert result.clipped[b].tolist() == [clipped, clipped, False]


def test_answers_without_an_action_are_not_counted() -> None:
    mask = torch.tensor([[True, True, False], [False] * 3, [True, False, False]])
    for kind, count in (("sequence", 2), ("constant", 2), ("token", 3)):
        assert int(aggregate.denominator(mask, kind)) == count
        assert aggregate.denominators(mask, kind, None, 1) == [count]


def test_a_small_spread_is_no_zero_variance() -> None:
    """Rewards 0.50, 0.51, 0.52 differ by 0.01 and still rank their answers."""
    rewards = torch.tensor([0.50, 0.51, 0.52, 0.3, 0.3, 0.3])
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    assert group_statistics(rewards, group)[1].tolist() == pytest.approx([0.01] * 3 + [0.0] * 3)
    assert zero_variance(rewards, group).tolist() == [False] * 3 + [True] * 3
