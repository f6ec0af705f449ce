"""Estimators of KL(policy || reference) from the log-probs of sampled actions.

John Schulman, "Approximating KL divergence" (2020). d = logp - reference_logp, nats.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


def k1(
    logp: Float[Tensor, "*actions"], reference_logp: Float[Tensor, "*actions"]
) -> Float[Tensor, "*actions"]:
    """d: unbiased and noisy. As a loss its expected gradient is 0; use k2 or k3 there."""
    return logp - reference_logp


def k2(
    logp: Float[Tensor, "*actions"], reference_logp: Float[Tensor, "*actions"]
) -> Float[Tensor, "*actions"]:
    """d^2 / 2: biased, but its gradient is that of the true KL for actions of this policy."""
    return (logp - reference_logp).square() / 2


def k3(
    logp: Float[Tensor, "*actions"], reference_logp: Float[Tensor, "*actions"]
) -> Float[Tensor, "*actions"]:
    """exp(-d) + d - 1: unbiased, never negative; GRPO's choice (arXiv 2402.03300, eq. 4)."""
    # An action that the reference finds far likelier would overflow float32 at d < -88.
    d = (logp - reference_logp).clamp(min=-30.0)
    return (-d).exp() + d - 1


KL_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
