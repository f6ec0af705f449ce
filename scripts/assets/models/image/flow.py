"""Training of the transformer and the text encoders by flow matching."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.assets.models.image.clock import Clock
from scripts.assets.models.gui_and_video.trainer import MuonWithAdam

CAPTION_DROPOUT = 0.1
"""Share of images shown without caption, for classifier-free guidance."""
EMA_DECAY = 0.999


def train_flow(
    pipeline: Any,
    captions: Sequence[str],
    latents: Tensor,
    weights: Tensor,
    clock: Clock,
    *,
    batch: int,
    lr: float,
    log: Any,
) -> None:
    """Velocity regression at noise levels of a logit-normal; ends on averaged weights.

    latents: [N, C, h, w], of variance 1; weights: how often each is drawn, [N].
    Source: SD3 (arXiv 2403.03206), section 3.1.
    """
    parts = (
        pipeline.transformer,
        pipeline.text_encoder,
        pipeline.text_encoder_2,
        pipeline.text_encoder_3,
    )
    named = [(n, p) for part in parts for n, p in part.named_parameters() if p.requires_grad]
    optimizer = MuonWithAdam(named, lr=lr, adam_lr=lr / 2, weight_decay=1e-3)
    base = [group["lr"] for group in optimizer.param_groups]
    average = [p.detach().clone() for _, p in named]
    shift = pipeline.scheduler.config.shift
    num_steps = 0
    while clock.running:
        picked = torch.multinomial(weights, batch, replacement=True)
        texts = [captions[i] if torch.rand(()) > CAPTION_DROPOUT else "" for i in picked.tolist()]
        loss = flow_loss(pipeline, texts, latents[picked], shift)
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * clock.factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        num_steps += 1
        decay = min(EMA_DECAY, (1 + num_steps) / (10 + num_steps))
        with torch.no_grad():
            torch._foreach_lerp_(average, [p for _, p in named], 1 - decay)
        if num_steps % 50 == 0:
            row = {"part": "flow", "step": num_steps, "loss": float(loss.detach())}
            log.write(json.dumps({**row, "time": round(time.time() - clock.start)}) + "\n")
            log.flush()
    with torch.no_grad():
        for (_, parameter), value in zip(named, average, strict=True):
            parameter.copy_(value)


def flow_loss(pipeline: Any, texts: Sequence[str], latents: Tensor, shift: float) -> Tensor:
    """Mean squared error of the velocity at one noise level per image."""
    context, _, pooled, _ = pipeline.encode_prompt(
        list(texts),
        None,
        None,
        do_classifier_free_guidance=False,
        max_sequence_length=pipeline.tokenizer.model_max_length,
    )
    sigma = torch.sigmoid(torch.randn(len(latents)))
    sigma = shift * sigma / (1 + (shift - 1) * sigma)
    noise = torch.randn_like(latents)
    wide = sigma[:, None, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        velocity = pipeline.transformer(
            hidden_states=(1 - wide) * latents + wide * noise,
            timestep=sigma * 1000,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
    return (velocity.float() - (noise - latents)).square().mean()
