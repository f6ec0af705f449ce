"""Denoising steps: published tables, distributions, and the identities behind them."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from vlrl.algo import flow

# Published schedule: shift 3, 10 steps, noise 0.7 (CPS 0.8).
# sigma, next, s, s sqrt(-dt), coefficient of x, of v, std of CPS
GOLDEN = [
    (1.0000, 0.9601, 3.5057, 0.7000, 0.7550, -0.0399, 0.9131),
    (0.9601, 0.9133, 3.4351, 0.7430, 0.7125, -0.0582, 0.8686),
    (0.9133, 0.8577, 2.2726, 0.5362, 0.8426, -0.0693, 0.8157),
    (0.8577, 0.7904, 1.7185, 0.4459, 0.8841, -0.0838, 0.7517),
    (0.7904, 0.7073, 1.3592, 0.3918, 0.9029, -0.1034, 0.6727),
    (0.7073, 0.6022, 1.0881, 0.3528, 0.9120, -0.1309, 0.5727),
    (0.6022, 0.4649, 0.8612, 0.3191, 0.9155, -0.1709, 0.4421),
    (0.4649, 0.2780, 0.6524, 0.2820, 0.9145, -0.2326, 0.2644),
    (0.2780, 0.0089, 0.4344, 0.2254, 0.9087, -0.3351, 0.0085),
    (0.0089, 0.0000, 0.0664, 0.0063, 0.9978, -0.0111, 0.0000),
]


def schedule() -> list[float]:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    return scheduler.sigmas.tolist()


@pytest.mark.parametrize("i", range(10))
def test_the_published_schedule(i: int) -> None:
    sigmas = schedule()
    sigma, following, s, std, coef_x, coef_v, cps_std = GOLDEN[i]
    assert sigmas[i] == pytest.approx(sigma, abs=6e-5)
    assert sigmas[i + 1] == pytest.approx(following, abs=6e-5)
    step = flow.flow_sde(sigmas[i], sigmas[i + 1], 0.7, sigmas[1])
    got = (step.diffusion, step.std, step.coef_x, step.coef_v)
    assert got == pytest.approx((s, std, coef_x, coef_v), abs=6e-5)
    assert flow.cps(sigmas[i], sigmas[i + 1], 0.8, sigmas[1]).std == pytest.approx(
        cps_std, abs=6e-5
    )


def test_the_first_step_adds_the_noise_level_exactly() -> None:
    sigmas = schedule()
    assert flow.flow_sde(1.0, sigmas[1], 0.7, sigmas[1]).std == pytest.approx(0.7, abs=1e-12)


sigma_pairs = st.tuples(st.floats(0.02, 1.0), st.floats(0.0, 0.97)).map(
    lambda pair: (pair[0], pair[0] * pair[1])
)
LATENT = (2, 3, 4, 4)


@pytest.mark.parametrize("name", flow.STEPS)
@given(sigmas=sigma_pairs)
def test_no_noise_is_eulers_step(name: str, sigmas: tuple[float, float]) -> None:
    step = flow.STEPS[name](*sigmas, 0.0, 0.5)
    plain = flow.euler(*sigmas)
    assert step.std == 0
    assert (step.coef_x, step.coef_v) == pytest.approx((plain.coef_x, plain.coef_v), abs=1e-12)


@pytest.mark.parametrize("name", flow.STEPS)
def test_no_noise_is_diffusers_own_sampler(name: str) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    sigmas = scheduler.sigmas.tolist()
    x = mine = torch.randn(LATENT)
    for i, t in enumerate(scheduler.timesteps):
        v = torch.sin(3 * x)  # any field
        x = scheduler.step(v, t, x, return_dict=False)[0]
        step = flow.STEPS[name](sigmas[i], sigmas[i + 1], 0.0, sigmas[1])
        mine = step.mean(mine, torch.sin(3 * mine))
    torch.testing.assert_close(mine, x, rtol=0, atol=1e-6)


@given(sigmas=sigma_pairs, noise=st.floats(0.05, 1.0))
def test_cps_keeps_the_coefficients(sigmas: tuple[float, float], noise: float) -> None:
    """With the true velocity the next state has exactly the marginal of its noise level."""
    sigma, following = sigmas
    step = flow.cps(sigma, following, noise, 0.5)
    # x = (1 - sigma) d + sigma e and v = e - d: the weights of d and e in the mean.
    of_data = step.coef_x * (1 - sigma) - step.coef_v
    of_noise = step.coef_x * sigma + step.coef_v
    assert of_data == pytest.approx(1 - following, abs=1e-9)
    assert of_noise**2 + step.std**2 == pytest.approx(following**2, abs=1e-9)


@given(sigmas=sigma_pairs, noise=st.floats(0.05, 1.0), s=st.floats(0.05, 2.0))
def test_the_sde_forms_are_one(sigmas: tuple[float, float], noise: float, s: float) -> None:
    sigma, following = sigmas
    if sigma > 0.98:
        return
    a = flow.flow_sde(sigma, following, s / math.sqrt(sigma / (1 - sigma)), 0.5)
    b = flow.dance_sde(sigma, following, s, 0.5)
    assert (a.coef_x, a.coef_v, a.std) == pytest.approx((b.coef_x, b.coef_v, b.std), rel=1e-9)


@given(std=st.floats(1e-3, 5.0), shift=st.floats(-3, 3), seed=st.integers(0, 99))
def test_density_is_torchs_normal(std: float, shift: float, seed: int) -> None:
    torch.manual_seed(seed)
    mean = torch.randn(LATENT)
    x = mean + std * torch.randn(LATENT) + shift * std
    stds = torch.tensor([std, 2 * std])
    expected = Normal(mean.double(), stds.double()[:, None, None, None]).log_prob(x.double())
    got = flow.log_density(x, mean, stds)
    torch.testing.assert_close(got.double(), expected.flatten(1).sum(1), rtol=1e-4, atol=1e-2)


def test_exact_kl_is_torchs() -> None:
    torch.manual_seed(0)
    v, other = torch.randn(LATENT), torch.randn(LATENT)
    steps = [flow.flow_sde(0.9, 0.8, 0.7, 0.95), flow.cps(0.5, 0.3, 0.6, 0.95)]
    coef = torch.tensor([s.coef_v for s in steps])
    std = torch.tensor([s.std for s in steps])
    diffusion = torch.tensor([s.diffusion for s in steps])
    got = flow.kl_to_reference("exact", v, other, coef, std, diffusion)
    for i, step in enumerate(steps):
        x = torch.randn(LATENT[1:])
        here, there = step.mean(x, v[i]), step.mean(x, other[i])
        assert got[i] == pytest.approx(
            float(kl_divergence(Normal(here, step.std), Normal(there, step.std)).mean()), rel=1e-5
        )


@pytest.mark.parametrize("form", flow.KL_FORMS)
def test_kl_conventions_on_the_golden_steps(form: str) -> None:
    """Velocities 0.3 apart in one half of the dimensions, 0.5 in the other: mean square 0.17."""
    sigmas = schedule()
    apart = torch.tensor([0.3, -0.5]).repeat(24).view(1, *LATENT[1:])
    there = torch.randn(1, *LATENT[1:])
    for i, (_, _, s, std, _, coef_v, _) in enumerate(GOLDEN[:9]):
        step = flow.flow_sde(sigmas[i], sigmas[i + 1], 0.7, sigmas[1])
        numbers = (torch.tensor([x]) for x in (step.coef_v, step.std, step.diffusion))
        wanted = {
            "exact": 0.17 * coef_v**2 / (2 * std**2),
            "without_dt": 0.17 * coef_v**2 / (2 * s**2),
            "mean_distance": 0.17 * coef_v**2,
            "velocity": 0.17,
        }[form]
        found = flow.kl_to_reference(form, there + apart, there, *numbers)
        assert found.tolist() == pytest.approx([wanted], rel=3e-3)  # the table has four digits


@pytest.mark.parametrize("form", flow.KL_FORMS)
def test_kl_is_zero_at_the_start_and_has_a_gradient(form: str) -> None:
    v = torch.randn(LATENT, requires_grad=True)
    one = torch.tensor([0.3, 0.7])
    assert flow.kl_to_reference(form, v, v.detach(), one, one, one).abs().max() == 0
    flow.kl_to_reference(form, v, v.detach() + 0.1, one, one, one).sum().backward()
    assert v.grad is not None
    assert float(v.grad.abs().min()) > 0


def test_divisors_are_the_published_ones() -> None:
    std = torch.tensor([0.5, 2.0])
    assert flow.logp_divisor("dims", 48, std).tolist() == [48, 48]
    assert flow.logp_divisor("one", 48, std).tolist() == [1, 1]
    assert flow.logp_divisor("sqrt_dims", 64, std).tolist() == [8, 8]
    # CPS as published: -mean((x - mean)^2), constants aside.
    x, mean = torch.randn(LATENT), torch.randn(LATENT)
    other = torch.randn(LATENT)
    num = x[0].numel()
    divisor = flow.logp_divisor("cps_published", num, std)
    difference = flow.log_density(x, mean, std) - flow.log_density(x, other, std)
    published = ((x - other).square() - (x - mean).square()).flatten(1).mean(1)
    torch.testing.assert_close(difference / divisor, published, rtol=1e-4, atol=1e-4)


@given(std=st.floats(0.01, 2.0), seed=st.integers(0, 99), size=st.floats(1e-4, 1e-1))
def test_guarded_differences_are_z_times_d(std: float, seed: int, size: float) -> None:
    torch.manual_seed(seed)
    stds = torch.full((2,), std)
    old = torch.randn(LATENT)
    z = torch.randn(LATENT)
    x = old + std * z
    new = old + size * std * torch.randn(LATENT)
    num = old[0].numel()

    def guarded(mean: torch.Tensor) -> torch.Tensor:
        return flow.guarded_logp(flow.log_density(x, mean, stds) / num, mean, old, stds)

    expected = (z * (new - old)).flatten(1).mean(1)
    torch.testing.assert_close(guarded(new) - guarded(old), expected, rtol=1e-3, atol=2e-6)
