"""Sampling: noise to latents, along the ODE except in the window, whose steps are actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlrl.algo.flow import Step, log_density, logp_divisor
from vlrl.families.interfaces import LatentDecoder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Velocities = Callable[[Tensor, float], Tensor]
"""Latents [R, C, H, W] and one noise level -> velocities."""


@dataclass(frozen=True)
class Denoised:
    """Finished latents and the trained steps on the way."""

    latents: Tensor
    """[R, C, H, W], float32."""
    before: Tensor
    """[R, T, C, H, W], storage dtype, CPU; likewise `after`."""
    after: Tensor
    mean: Tensor
    """[R, T, C, H, W], float32, CPU."""
    logp: Tensor
    """[R, T], float32, CPU."""


@torch.no_grad()
def denoise(
    velocities: Velocities,
    start: Tensor,
    sigmas: Sequence[float],
    steps: Sequence[Step],
    generators: Sequence[torch.Generator],
    dtype: torch.dtype,
    logp_scale: str,
) -> Denoised:
    """Run all steps on `start` [R, C, H, W].

    Every state is rounded to `dtype` before its density is taken and before the next step reads
    it, so that the stored states are the sampled ones and the update sees the same numbers.
    generators: one per row, on CPU, so that an image does not depend on its batch.
    """
    x = start.to(dtype)
    before, after, means, logps = [], [], [], []
    for i, step in enumerate(steps):
        mean = step.mean(x, velocities(x, sigmas[i]))
        if step.std == 0:
            x = mean.to(dtype)
            continue
        noise = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators])
        following = (mean + step.std * noise.to(mean.device)).to(dtype)
        std = torch.full((len(x),), step.std, device=mean.device)
        logp = log_density(following, mean, std) / logp_divisor(logp_scale, x[0].numel(), std)
        before.append(x.cpu())
        after.append(following.cpu())
        means.append(mean.cpu())
        logps.append(logp.cpu())
        x = following
    return Denoised(
        x.float(),
        _stack(before, x),
        _stack(after, x),
        _stack(means, x.float()),
        torch.stack(logps, dim=1) if logps else torch.zeros(len(x), 0),
    )


def noised(
    done: Denoised, sigmas: Sequence[float], num: int, generators: Sequence[torch.Generator]
) -> tuple[Denoised, Tensor]:
    """The final latents, each noised to `num` levels of the schedule, and the levels [R, T].

    The levels of an image are distinct as long as the schedule has enough of them.
    """
    levels, states = [], []
    clean = done.latents.cpu()
    for row, generator in enumerate(generators):
        order = torch.cat(
            [torch.randperm(len(sigmas) - 1, generator=generator) for _ in range(num)]
        )[:num]
        level = torch.tensor(sigmas)[order]
        noise = torch.randn((num, *clean.shape[1:]), generator=generator)
        wide = level.view(-1, 1, 1, 1)
        states.append((1 - wide) * clean[row] + wide * noise)
        levels.append(level)
    before = torch.stack(states)
    after = clean[:, None].expand_as(before)
    logp = torch.zeros(before.shape[:2])
    return Denoised(done.latents, before, after, before, logp), torch.stack(levels)


def _stack(parts: list[Tensor], like: Tensor) -> Tensor:
    if not parts:
        return like.new_zeros(len(like), 0, *like.shape[1:]).cpu()
    return torch.stack(parts, dim=1)


@torch.no_grad()
def decode_images(vae: LatentDecoder, latents: Tensor, batch_size: int) -> list[Tensor]:
    """Latents [R, C, H, W] -> uint8 images [H, W, 3] on CPU, `batch_size` at a time."""
    shift, scale = vae.config["shift_factor"] or 0.0, vae.config["scaling_factor"]
    images: list[Tensor] = []
    for part in latents.float().split(batch_size):
        decoded = vae.decode(part / scale + shift, return_dict=False)[0]
        unit = (decoded / 2 + 0.5).clamp(0, 1)
        images += list((unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
    return images
