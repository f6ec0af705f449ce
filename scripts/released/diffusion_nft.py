"""DiffusionNFT's copy of DanceGRPO's step."""

from __future__ import annotations

import math
import random

import torch

from released.comparison import Answer, Comparison, Json
from released.source import AnyType, Source

REPOSITORY, COMMIT = "NVlabs/DiffusionNFT", "24af5554898d85e93efa492f42b5e9cdf4156e9b"
FILE = "flow_grpo/diffusers_patch/solver.py"


def steps(rng: random.Random) -> list[Json]:
    """[sigma, next sigma, noise, x, v, next x]."""
    rows: list[Json] = []
    for number in range(220):
        sigma = 1.0 if number % 10 == 0 else round(rng.uniform(0.05, 0.99), 4)
        following = round(sigma * rng.uniform(0.1, 0.95), 4)
        latents = [[round(rng.gauss(0, 1), 3) for _ in range(4)] for _ in range(3)]
        rows.append([sigma, following, rng.choice((0.1, 0.3, 0.7, 1.0)), *latents])
    return rows


def dance(source: Source) -> Answer:
    """`dance_grpo_step` -> its log-prob."""
    given = {"math": math, "torch": torch, "Optional": AnyType, "List": AnyType}
    made = source.define(FILE, ["dance_grpo_step"], given)

    def answer(row: Json) -> Json:
        sigma, following, noise, x, v, after = row
        sigmas = torch.tensor([sigma, following])
        latents = [torch.tensor(values).view(1, 1, 2, 2) for values in (v, x, after)]
        logp = made["dance_grpo_step"](latents[0], latents[1], noise, sigmas, 0, latents[2])[2]
        return float(f"{logp.item():.8g}")

    return answer


COMPARISONS = [Comparison("diffusion_nft_dance_step", REPOSITORY, COMMIT, FILE, steps, dance)]
