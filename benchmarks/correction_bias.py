"""The bias of a policy gradient whose answers a noisy sampler drew, with and without correction.

    python benchmarks/correction_bias.py                       # the table of docs/engines.md
    python benchmarks/correction_bias.py --plot docs/correction_bias.svg

A softmax policy over 64 tokens with random rewards, and a sampler whose logits have noise of a
given size on top. The expected gradient is summed over all tokens, so nothing here is estimated:
what is shown is the length of (expected gradient - exact gradient) over that of the exact one, a
mean over 200 policies; and the effective sample size of the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from charted import write_chart
from torch import Tensor

from vlrl.algo.correction import weights

NOISES = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0)
NUM_TOKENS, NUM_POLICIES, LIMIT = 64, 200, 2.0
WAYS = ("none", "truncate", "mask")


def gradient(theta: Tensor, weight: Tensor, sampler: Tensor, reward: Tensor) -> Tensor:
    """The expected gradient under the sampler: sum of s w r (one-hot - p)."""
    p = theta.softmax(-1)
    each = sampler * weight * (reward - (p * reward).sum(-1, keepdim=True))
    return each - p * each.sum(-1, keepdim=True)


def biases(noise: float) -> dict[str, tuple[float, float]]:
    """Relative bias and effective share of each way, means over the policies."""
    make = torch.Generator().manual_seed(0)
    shape = (NUM_POLICIES, NUM_TOKENS)
    theta = torch.randn(shape, generator=make)
    reward = torch.randn(shape, generator=make)
    sampler = (theta + noise * torch.randn(shape, generator=make)).log_softmax(-1)
    now, mask = theta.log_softmax(-1), torch.ones(shape, dtype=torch.bool)
    exact = gradient(theta, torch.ones(shape), now.exp(), reward)
    found = {}
    for way in WAYS:
        weight = torch.ones(shape)
        if way != "none":
            weight = weights(now, sampler, mask, "token", way, LIMIT)  # type: ignore[arg-type]
        bias = (gradient(theta, weight, sampler.exp(), reward) - exact).norm(dim=-1)
        mean = (sampler.exp() * weight).sum(-1)
        share = mean.square() / (sampler.exp() * weight.square()).sum(-1)
        found[way] = (float((bias / exact.norm(dim=-1)).mean()), float(share.mean()))
    return found


def main() -> None:
    """Print the table; with --plot write the chart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    rows = {noise: biases(noise) for noise in NOISES}
    print(
        "| noise of the sampler's logits | none | truncated at 2 | masked at 2 | effective share |"
    )
    print("|---|---|---|---|---|")
    for noise, found in rows.items():
        shown = [f"{found[way][0]:.3f}" for way in WAYS]
        print(f"| {noise:g} | {' | '.join(shown)} | {found['truncate'][1]:.2f} |")
    if args.plot is not None:
        series = {w: [(noise, rows[noise][w][0]) for noise in NOISES] for w in WAYS}
        write_chart(args.plot, series, "noise (bias of the gradient)", smooth=False)


if __name__ == "__main__":
    main()
