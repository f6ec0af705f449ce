"""Training of the voxel VQ-VAE: first without a codebook, then with one that follows the latents.

Loss: cross-entropy and dice of the occupancy (dice as TRELLIS, arXiv 2412.01506) plus 0.25 times
the commitment. Codes move by a running mean of the latents they serve (van den Oord et al., arXiv
1711.00937, appendix A.1); an unused one is moved to some latent.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlrl.policy.voxel_tokens.codec import VoxelCodec
from scripts.assets.models.image.clock import Clock

COMMITMENT = 0.25
FREE_SHARE = 0.3
"""Share of the run in which latents pass by the codebook."""
DECAY = 0.97
LEAST_USE = 0.05
"""Running count per step below which a code counts as dead."""


def coarse(occupancy: Tensor) -> Tensor:
    """The same shapes at half the resolution, blocks of 2 x 2 x 2; [B, R, R, R], 0 and 1."""
    pooled = functional.max_pool3d(occupancy[:, None], 2)
    return functional.interpolate(pooled, scale_factor=2, mode="nearest")[:, 0]


def occupancy_loss(logits: Tensor, occupancy: Tensor) -> Tensor:
    """Cross-entropy plus dice, both means over the batch; [B, R, R, R] each."""
    chance = logits.sigmoid()
    overlap = (chance * occupancy).flatten(1).sum(1)
    total = chance.flatten(1).sum(1) + occupancy.flatten(1).sum(1)
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return functional.binary_cross_entropy_with_logits(logits, occupancy) + dice.mean()


class Follower:
    """Keeps the codes at the running mean of the latents that chose them."""

    def __init__(self, codec: VoxelCodec, latents: Tensor) -> None:
        weight = codec.vq.embeddings.weight
        picked = torch.randperm(len(latents))[: len(weight)]
        weight.data.copy_(latents[picked.repeat(-(-len(weight) // len(picked)))[: len(weight)]])
        self.weight = weight
        self.count = torch.ones(len(weight))
        self.total = weight.data.clone()

    @torch.no_grad()
    def step(self, latents: Tensor, codes: Tensor) -> None:
        """latents: [N, W]; codes: [N]."""
        count = torch.bincount(codes, minlength=len(self.weight)).float()
        total = torch.zeros_like(self.total).index_add_(0, codes, latents)
        self.count.lerp_(count, 1 - DECAY)
        self.total.lerp_(total, 1 - DECAY)
        dead = (self.count < LEAST_USE).nonzero()[:, 0]
        if len(dead):
            chosen = latents[torch.randint(len(latents), (len(dead),))]
            self.total[dead], self.count[dead] = chosen, 1.0
        self.weight.data.copy_(self.total / self.count[:, None])


def train_codec(
    codec: VoxelCodec, shapes: Tensor, clock: Clock, *, batch: int, lr: float, log: Any
) -> None:
    """Train on bool shapes [N, R, R, R], mirrored and coarse ones included."""
    codec.train()
    codec.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    codec.vq.requires_grad_(False)
    trained = [p for p in codec.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.98), weight_decay=1e-3)
    follower: Follower | None = None
    num_steps = 0
    while clock.running:
        x = draw_batch(shapes, batch)
        with torch.autocast("cpu", torch.bfloat16):
            z = codec.latents(x).float()
            if follower is None and clock.share > FREE_SHARE:
                follower = Follower(codec, z.detach().flatten(0, 1))
            if follower is None:
                vectors, commitment = z, z.square().mean() * 1e-3
                codes = torch.zeros(1, dtype=torch.long)
            else:
                codes = codec.vq(z.detach().flatten(0, 1))
                chosen = codec.vq.embeddings(codes).view_as(z)
                commitment = functional.mse_loss(z, chosen)
                vectors = z + (chosen - z).detach()
            logits = codec.logits(vectors)[:, 0].float()
        loss = occupancy_loss(logits, x) + COMMITMENT * commitment
        for group in optimizer.param_groups:
            group["lr"] = lr * clock.factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if follower is not None:
            follower.step(z.detach().flatten(0, 1), codes)
        num_steps += 1
        if num_steps % 25 == 0:
            found = logits > 0
            overlap = (found & x.bool()).sum() / (found | x.bool()).sum().clamp(min=1)
            row = {"part": "codec", "step": num_steps, "loss": float(loss.detach())}
            row |= {"iou": float(overlap), "perplexity": perplexity(codes, codec.shape.num_codes)}
            row |= {"codebook": follower is not None, "time": round(time.time() - clock.start)}
            log.write(json.dumps(row) + "\n")
            log.flush()
    codec.vq.requires_grad_(True)
    codec.eval()


def draw_batch(shapes: Tensor, batch: int) -> Tensor:
    """Random shapes, half of them mirrored left to right, a quarter of them coarse; float32."""
    x = shapes[torch.randint(len(shapes), (batch,))].float()
    flip = torch.rand(batch) < 0.5
    x[flip] = x[flip].flip(1)
    rough = torch.rand(batch) < 0.25
    if rough.any():
        x[rough] = coarse(x[rough])
    return x


def perplexity(codes: Tensor, num_codes: int) -> float:
    """exp of the entropy of the codes' usage: the effective number of codes."""
    share = torch.bincount(codes.flatten(), minlength=num_codes).double()
    share = share[share > 0] / share.sum()
    return math.exp(float(-(share * share.log()).sum()))


@torch.no_grad()
def reconstruction_iou(codec: VoxelCodec, shapes: Tensor) -> float:
    """Mean IoU of shapes, bool [N, R, R, R], and what their codes decode to."""
    values = []
    for part in shapes.split(32):
        found = codec.decode(codec.encode(part.float()))
        overlap = (found & part).flatten(1).sum(1)
        values.append(overlap / (found | part).flatten(1).sum(1).clamp(min=1))
    return float(torch.cat(values).mean())
