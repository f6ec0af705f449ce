"""One denoising step of a flow-matching model as a Gaussian action; pure functions.

Convention: sigma = 1 is noise, sigma = 0 data; x = (1 - sigma) data + sigma noise, and the model
predicts the velocity v = noise - data. A step goes from sigma to next_sigma < sigma. All of them
are linear in x and v:

    mean = coef_x x + coef_v v,    x_next = mean + std z,    z ~ N(0, I)

so a step is four numbers, and its density, its KL and its ratio follow from them. Everything here
is float32 or better: in bf16 the mean overflows its own noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

State = Float[Tensor, "R *state"]
"""A latent image, or its velocity, per row."""
Rows = Float[Tensor, " R"]


@dataclass(frozen=True)
class Step:
    """A Gaussian transition."""

    coef_x: float
    coef_v: float
    std: float
    """Standard deviation of the added noise; 0 = deterministic."""
    diffusion: float
    """Noise per square root of time (s in the papers); equals `std` where time is not involved."""
    dt: float
    """next_sigma - sigma, below 0."""

    def mean(
        self, x: Float[Tensor, "*state"], v: Float[Tensor, "*state"]
    ) -> Float[Tensor, "*state"]:
        """Mean of the next state, float32."""
        return x.float() * self.coef_x + v.float() * self.coef_v


def euler(sigma: float, next_sigma: float) -> Step:
    """The deterministic step: x + v dt."""
    dt = next_sigma - sigma
    return Step(1.0, dt, 0.0, 0.0, dt)


def flow_sde(sigma: float, next_sigma: float, noise: float, first_sigma: float) -> Step:
    """Flow-SDE, diffusion s = noise * sqrt(sigma / (1 - sigma)); at sigma = 1 `first_sigma` serves.

    Source: Flow-GRPO (arXiv 2505.05470), eq. 9, with the guard of its code at the first step:
    first_sigma is the schedule's second entry there, so that the first step adds `noise` exactly.
    """
    guarded = first_sigma if sigma == 1 else sigma
    return _constant_sde(sigma, next_sigma, noise * math.sqrt(sigma / (1 - guarded)))


def dance_sde(sigma: float, next_sigma: float, noise: float, first_sigma: float) -> Step:
    """The same SDE with constant diffusion s = noise. Source: DanceGRPO (arXiv 2505.07818)."""
    return _constant_sde(sigma, next_sigma, noise)


def cps(sigma: float, next_sigma: float, noise: float, first_sigma: float) -> Step:
    """Coefficient-preserving sampling: fresh noise replaces a part of the predicted noise.

    std = next_sigma sin(noise pi / 2), so noise lies in [0, 1] and the last step is deterministic.
    Source: Flow-CPS (arXiv 2509.05952), as in flow_grpo's code.
    """
    std = next_sigma * math.sin(noise * math.pi / 2)
    kept = math.sqrt(max(next_sigma**2 - std**2, 0.0))
    return Step(
        coef_x=(1 - next_sigma) + kept,
        coef_v=kept * (1 - sigma) - sigma * (1 - next_sigma),
        std=std,
        diffusion=std,
        dt=next_sigma - sigma,
    )


def _constant_sde(sigma: float, next_sigma: float, s: float) -> Step:
    """Euler-Maruyama on the SDE with the flow's marginals and diffusion s."""
    dt = next_sigma - sigma
    drift = s * s / (2 * sigma) * dt
    return Step(
        coef_x=1 + drift,
        coef_v=dt + drift * (1 - sigma),
        std=s * math.sqrt(-dt),
        diffusion=s,
        dt=dt,
    )


STEPS: dict[str, Callable[[float, float, float, float], Step]] = {
    "flow_sde": flow_sde,
    "cps": cps,
    "dance_sde": dance_sde,
}
"""Stochastic steps by name; arguments sigma, next_sigma, noise level, first_sigma."""


def log_density(x_next: State, mean: State, std: Rows) -> Rows:
    """Log-density of the next state, summed over its dimensions, nats, float32; std is above 0."""
    rest = x_next[0].numel()
    z = (x_next.float() - mean.float()) / _wide(std, x_next)
    constant = rest * (std.double().log() + 0.5 * math.log(2 * math.pi))
    return (-0.5 * z.double().square().flatten(1).sum(1) - constant).float()


def logp_divisor(name: str, num_dims: int, std: Rows) -> Rows:
    """What a summed log-density is divided by before it makes a ratio, [R].

    dims: the mean over dimensions (Flow-GRPO, Flow-Factory). one: the true density, whose ratio
    leaves every clip range at once. sqrt_dims: the ratio's spread does not depend on the
    image's size. cps_published: num_dims / (2 std^2), flow_grpo's CPS code, which leaves out
    the variance and so weights late steps more.
    """
    if name == "cps_published":
        return num_dims / (2 * std.double().square()).float()
    value = {"dims": num_dims, "sqrt_dims": math.sqrt(num_dims), "one": 1.0}[name]
    return torch.full_like(std, value)


KL_FORMS = ("exact", "without_dt", "mean_distance", "velocity")


def kl_to_reference(
    form: str,
    v: State,
    v_reference: State,
    coef_v: Rows,
    std: Rows,
    diffusion: Rows,
) -> Rows:
    """KL of the step to the reference's step, mean over dimensions; 0 where both agree.

    Both steps start from the same x, so their means differ by coef_v (v - v_reference).

    exact: the closed form, |difference of means|^2 / (2 std^2).
    without_dt: diffusion instead of std (Flow-GRPO's code; weights late steps more).
    mean_distance: no division (Adv-GRPO's code; Flow-Factory "x-based").
    velocity: |v - v_reference|^2 (Flow-Factory "v-based").
    """
    distance = (v.float() - v_reference.float()).square().flatten(1).mean(1)
    if form == "velocity":
        return distance
    distance = distance * coef_v.square()
    if form == "mean_distance":
        return distance
    return distance / (2 * (std if form == "exact" else diffusion).square())


def guarded_logp(
    logp: Rows,
    mean: State,
    mean_old: State,
    std: Rows,
) -> Rows:
    """GRPO-Guard's log-prob: differences of it are centred and of one size at every step.

    The plain log-ratio (mean over dimensions) of a step is mean(z d)/std - mean(d^2)/(2 std^2),
    d = mean - mean_old: its mean is below 0 and its size goes with 1/std. Here the difference is
    mean(z d) alone. Source: GRPO-Guard (arXiv 2510.22319), RatioNorm.
    """
    distance = (mean.float() - mean_old.float()).square().flatten(1).mean(1)
    return logp * std + distance / (2 * std)


def _wide(values: Rows, like: State) -> Tensor:
    """[R] -> [R, 1, ...] to go with a tensor of more axes."""
    return values.view(-1, *([1] * (like.dim() - 1)))
