"""Correction of rollouts that another distribution drew: hand tables and properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vlrl.algo.correction import (
    Mismatch,
    on_policy_rows,
    ratios,
    unbiased_kl,
    weights,
)
from vlrl.distributed.comm import World
from vlrl.log.metrics import Meter

MASK = torch.tensor([[True, True, True], [True, True, False]])
# Ratios by hand: exp(trainer - sampler) = 1, 2, 1/4 | 3, 1/2, (none).
SAMPLER = torch.tensor([[-1.0, -2.0, -1.0], [-3.0, -1.0, -9.0]])
TRAINER = SAMPLER + torch.tensor(
    [[0.0, math.log(2), -math.log(4)], [math.log(3), -math.log(2), 5.0]]
)


@pytest.mark.parametrize(
    ("level", "mode", "limit", "wanted"),
    [
        ("token", "truncate", 2.0, [[1, 2, 0.25], [2, 0.5, 0]]),
        ("token", "mask", 2.0, [[1, 2, 0], [0, 0.5, 0]]),
        ("token", "mask", 4.0, [[1, 2, 0.25], [3, 0.5, 0]]),
        ("sequence", "truncate", 1.2, [[0.5, 0.5, 0.5], [1.2, 1.2, 0]]),
        ("sequence", "mask", 1.6, [[0, 0, 0], [1.5, 1.5, 0]]),
        ("sequence", "mask", 3.0, [[0.5, 0.5, 0.5], [1.5, 1.5, 0]]),
    ],
)
def test_weights_by_hand(level: str, mode: str, limit: float, wanted: list[list[float]]) -> None:
    found = weights(TRAINER, SAMPLER, MASK, level, mode, limit)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_equal_distributions_change_nothing() -> None:
    for level in ("token", "sequence"):
        for mode in ("truncate", "mask"):
            found = weights(SAMPLER, SAMPLER, MASK, level, mode, 1.5)  # type: ignore[arg-type]
            assert torch.equal(found, MASK.float())


def test_weights_have_no_gradient() -> None:
    trainer = TRAINER.clone().requires_grad_()
    assert not weights(trainer, SAMPLER, MASK, "token", "truncate", 2.0).requires_grad


def test_drifted_answers_worse_than_their_group_are_left_out() -> None:
    """Mean drift by hand: row 0 (1 + 1) / 2 = 1, row 1 (0.2 + 0.4) / 2 = 0.3."""
    now = torch.tensor([[-2.0, -3.0], [-1.2, -1.4]])
    sampler = torch.tensor([[-1.0, -2.0], [-1.0, -1.0]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    worse = -torch.ones(2, 2)
    assert on_policy_rows(now, sampler, mask, worse, 0.5).tolist() == [False, True]
    assert on_policy_rows(now, sampler, mask, -worse, 0.5).tolist() == [True, True]
    assert on_policy_rows(now, sampler, mask, worse, 0.2).tolist() == [False, False]


def test_sums_by_hand() -> None:
    weight = weights(TRAINER, SAMPLER, MASK, "token", "mask", 2.0)
    found = Mismatch.of(weight, TRAINER, SAMPLER, MASK, "token")
    assert float(found.weight) == pytest.approx(3.5)
    assert float(found.squared) == pytest.approx(1 + 4 + 0.25)
    assert float(found.largest_ratio) == pytest.approx(3.0)
    assert float(found.masked) == 2
    logs = [0.0, math.log(2), -math.log(4), math.log(3), -math.log(2)]
    assert float(found.kl) == pytest.approx(sum(math.exp(x) - 1 - x for x in logs), rel=1e-6)
    meter = Meter()
    for half in (weight[:1], weight[1:]):  # as in two chunks of 3 and 2 tokens
        meter.effective_later("share", half.sum(), half.square().sum(), 2.5)
    assert meter.reduce(World(0, 1, torch.device("cpu"))) == {
        "share": pytest.approx(3.5**2 / (5 * 5.25))
    }


def expected_gradient(theta: Tensor, sampler: Tensor, reward: Tensor, **how: float) -> Tensor:
    """The exact mean of weight x reward x grad log p under the sampler, over all tokens."""
    logits = theta.clone().requires_grad_()
    logp = logits.log_softmax(-1)
    weight = torch.ones_like(logp)
    if how:
        one = torch.ones(1, len(theta), dtype=torch.bool)
        mode = "truncate" if "truncate" in how else "mask"
        limit = how[mode]
        weight = weights(logp.detach()[None], sampler[None], one, "token", mode, limit)[0]
    (sampler.exp() * weight * reward * logp).sum().backward()
    assert logits.grad is not None
    return logits.grad


@given(st.integers(0, 1000), st.floats(0.05, 1.0))
def test_untouched_weights_give_the_exact_gradient_of_a_noisy_sampler(
    seed: int, noise: float
) -> None:
    make = torch.Generator().manual_seed(seed)
    theta = torch.randn(6, generator=make, dtype=torch.float64)
    reward = torch.randn(6, generator=make, dtype=torch.float64)
    sampler = (theta + noise * torch.randn(6, generator=make, dtype=torch.float64)).log_softmax(-1)
    exact = expected_gradient(theta, theta.log_softmax(-1), reward)
    corrected = expected_gradient(theta, sampler, reward, truncate=1e6)
    torch.testing.assert_close(corrected, exact, atol=1e-9, rtol=0)
    # The test is not vacuous: without correction it is biased.
    plain = expected_gradient(theta, sampler, reward)
    assert float((plain - exact).abs().max()) > 1e-6


def test_the_unbiased_kl_has_the_gradient_of_the_true_kl() -> None:
    """Over all tokens of a sampler that is not the policy: sum s x k3 x now / s = KL."""
    now = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64).requires_grad_()
    reference = torch.tensor([0.1, 0.3, -0.4], dtype=torch.float64).log_softmax(-1)
    sampler = torch.tensor([0.2, 0.2, 0.9], dtype=torch.float64).log_softmax(-1)
    logp = now.log_softmax(-1)
    d = logp - reference
    estimate = (sampler.exp() * unbiased_kl((-d).exp() + d - 1, logp, sampler)).sum()
    (found,) = torch.autograd.grad(estimate, now, retain_graph=True)
    (wanted,) = torch.autograd.grad((logp.exp() * d).sum(), now)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


def test_ratios_beyond_all_limits_stay_finite() -> None:
    far = torch.full((1, 2), -500.0)
    one = torch.ones(1, 2, dtype=torch.bool)
    assert ratios(torch.zeros(1, 2), far, one, "sequence").isfinite().all()
