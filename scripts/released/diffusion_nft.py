"""DiffusionNFT's loss, and its copy of DanceGRPO's step."""

from __future__ import annotations

import ast
import math
import random
from types import SimpleNamespace

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


def losses(rng: random.Random) -> list[Json]:
    """[beta, scale, sigmas, advantages, v, v_old, x, clean] of two latent images."""
    rows: list[Json] = []
    for number in range(220):
        scale = rng.choice((1.0, 5.0))
        sigmas = [round(rng.uniform(0.02, 1), 3) for _ in range(2)]
        advantages = [round(rng.choice((0.0, rng.gauss(0, scale))), 3) for _ in range(2)]
        v, v_old, x, clean = (
            [[round(rng.gauss(0, 1), 3) for _ in range(4)] for _ in range(2)] for _ in range(4)
        )
        if number % 4 == 0:
            v_old = v  # the first step after sampling
        if number % 11 == 0:
            # No error at all, which is divided by its own size.
            v = v_old = [[0.0] * 4] * 2
            x = clean
        rows.append([rng.choice((0.1, 1.0, 2.0)), scale, sigmas, advantages, v, v_old, x, clean])
    return rows


LOSS_FILE = "scripts/train_nft_sd3.py"


def loss(source: Source) -> Answer:
    """The statements of the training loop from the advantages to the loss of each image.

    -> [loss of each image, gradient of their mean with respect to v].
    """
    block = _statements(source, "advantages_clip", "policy_loss")
    code = compile(ast.Module(block, []), LOSS_FILE, "exec")

    def answer(row: Json) -> Json:
        beta, scale, sigmas, advantages, *latents = row
        v, v_old, x, clean = (torch.tensor(values).view(2, 1, 2, 2) for values in latents)
        v.requires_grad_()
        space = {
            "torch": torch,
            "config": SimpleNamespace(beta=beta, train=SimpleNamespace(adv_clip_max=scale)),
            "train_sample_batch": {"advantages": torch.tensor(advantages)[:, None]},
            "j_idx": 0,
            "loss_terms": {},
            "forward_prediction": v,
            "old_prediction": v_old,
            "xt": x,
            "x0": clean,
            "t_expanded": torch.tensor(sigmas).view(-1, 1, 1, 1),
        }
        exec(code, space)
        (gradient,) = torch.autograd.grad(space["policy_loss"], v)
        each = space["ori_policy_loss"] * scale
        return [float(f"{value:.8g}") for value in [*each.tolist(), *gradient.flatten().tolist()]]

    return answer


def _statements(source: Source, first: str, last: str) -> list[ast.stmt]:
    """What a block of a file does from one variable to another.

    Raises:
        LookupError: no block of the file assigns both.
    """
    for node in ast.walk(ast.parse(source.text(LOSS_FILE))):
        body = node.body if isinstance(node, ast.For) else []
        places = {
            target.id: place
            for place, statement in reversed(list(enumerate(body)))
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        if {first, last} <= set(places):
            return body[places[first] : places[last] + 1]
    raise LookupError(f"{LOSS_FILE} at {source.commit} assigns no {first} and {last} in a loop")


COMPARISONS = [
    Comparison("diffusion_nft_dance_step", REPOSITORY, COMMIT, FILE, steps, dance),
    Comparison("diffusion_nft_loss", REPOSITORY, COMMIT, LOSS_FILE, losses, loss),
]
