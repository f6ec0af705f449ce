"""Training of the autoencoder, and the scale of its latents."""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from torch import Tensor

from scripts.assets.models.image.clock import Clock

KL_WEIGHT = 1e-6
START_LOG_VARIANCE = -6.0
EDGE_WEIGHT = 1.0


def train_autoencoder(
    vae: Any, images: Tensor, clock: Clock, *, batch: int, lr: float, log: Any
) -> None:
    """Absolute error of pixels and of their differences, a little KL.

    images: uint8 [N, 3, H, W].
    """
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=1e-3)
    vae.train()
    _start_certain(vae)
    num_steps = 0
    while clock.running:
        picked = as_signal(images[torch.randint(len(images), (batch,))])
        if torch.rand(()) < 0.5:
            picked = picked.flip(-1)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(picked).latent_dist
            output = vae.decode(posterior.sample()).sample.float()
        error = (output - picked).abs().mean()
        edges = sum((output.diff(dim=d) - picked.diff(dim=d)).abs().mean() for d in (-1, -2))
        loss = error + EDGE_WEIGHT * edges + KL_WEIGHT * posterior.kl().mean()
        for group in optimizer.param_groups:
            group["lr"] = lr * clock.factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        num_steps += 1
        if num_steps % 50 == 0:
            row = {"part": "vae", "step": num_steps, "error": float(error.detach())}
            log.write(json.dumps({**row, "time": round(time.time() - clock.start)}) + "\n")
            log.flush()
    vae.eval()


@torch.no_grad()
def _start_certain(vae: Any) -> None:
    """Latents with little noise at first: with the usual variance of 1 nothing gets through."""
    last = vae.encoder.conv_out
    half = last.out_channels // 2
    last.weight[half:] = 0
    last.bias[half:] = START_LOG_VARIANCE


@torch.no_grad()
def scale_latents(vae: Any, images: Tensor) -> None:
    """Set shift and scale so that latents have mean 0 and variance 1, as the noise has."""
    chosen = images[torch.randperm(len(images))[:512]]
    latents = torch.cat([vae.encode(as_signal(x)).latent_dist.mode() for x in chosen.split(64)])
    vae.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=1 / float(latents.std())
    )


@torch.no_grad()
def encode_images(vae: Any, images: Tensor) -> Tensor:
    """Scaled latents, [N, C, h, w]."""
    latents = torch.cat([vae.encode(as_signal(x)).latent_dist.mode() for x in images.split(64)])
    return (latents - vae.config.shift_factor) * vae.config.scaling_factor


def as_signal(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
