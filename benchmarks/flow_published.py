"""flow_grpo's published loop, re-implemented plainly, for flow_step.py to compare with.

Written from its description (arXiv 2505.05470 and the order of operations of its SD3 program),
without using vlrl's policy, so that it also checks it. What it does in one step:

    for every batch of images: text encoders -> 10 guided steps, all but the last stochastic
        (the published last one adds 0.006 of noise), latents kept in float32 -> one decode
    rewards -> advantages within groups
    for every micro-batch, for every trained step: one guided forward, one backward
    an AdamW step after each minibatch; ratios compare with the log-probs that sampling kept

Text encoders stay in memory. Reference policy off (beta 0).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from flow_vs_published import Case, Times, mean_brightness
from torch import Tensor

from vlrl.seeds import row_seed
from vlrl.types import Sample


class Stepper(Protocol):
    """Takes losses, and then steps."""

    def backward(self, loss: Tensor) -> None:
        """Add its gradient."""

    def step(self, suspects: Sequence[str] = ()) -> float:
        """Move the weights; returns the gradient norm."""


class PlainOptimizer:
    """Clipping at 1 and AdamW."""

    def __init__(self, module: torch.nn.Module, lr: float) -> None:
        self.parameters = list(module.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, weight_decay=1e-4)

    def backward(self, loss: Tensor) -> None:
        """Add its gradient."""
        loss.backward()

    def step(self, suspects: Sequence[str] = ()) -> float:
        """Clip, move, and clear the gradients."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)


@dataclass(frozen=True)
class Rollouts:
    """Of one step. N images, S denoising steps, S - 1 of them trained."""

    context: Tensor
    """[N, L, D]"""
    pooled: Tensor
    """[N, D']"""
    latents: Tensor
    """[N, S + 1, C, H, W], float32."""
    logp: Tensor
    """[N, S - 1], mean over the latents' dimensions."""
    images: Tensor
    """uint8 [N, H, W, 3]"""


class PublishedLoop:
    """Model, text encoders, decoder and optimizer, all in memory at once."""

    def __init__(self, case: Case, model: Path, *, encode_once: bool = False) -> None:
        """encode_once: the one improvement that does not change the loop."""
        from diffusers import StableDiffusion3Pipeline

        self.case = case
        self.pipeline: Any = StableDiffusion3Pipeline.from_pretrained(model)
        for name in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
            getattr(self.pipeline, name).requires_grad_(False).eval()
        self.transformer = self.pipeline.transformer
        self.scheduler = self.pipeline.scheduler
        self.scheduler.set_timesteps(case.num_steps)
        self.sigmas: list[float] = self.scheduler.sigmas.tolist()
        self.num_trained = case.num_steps - 1
        self.encoding_s = 0.0
        # The empty prompt is encoded once by the published program too.
        self.negative = self._encode([""])
        self.kept: dict[str, tuple[Tensor, Tensor]] | None = {} if encode_once else None
        self.stepper: Stepper = PlainOptimizer(self.transformer, case.lr)

    def step(self, samples: Sequence[Sample], seed: int, times: Times) -> None:
        """One whole training step on these prompts."""
        clock = [time.perf_counter()]
        rollouts = self.sample(samples, seed)
        clock.append(time.perf_counter())
        rewards = torch.tensor([mean_brightness(p.numpy()) for p in rollouts.images])
        advantage = self.advantages(rewards)
        clock.append(time.perf_counter())
        self.update(rollouts, advantage)
        clock.append(time.perf_counter())
        for i, phase in enumerate(("sampling", "scoring", "update")):
            times.seconds[phase].append(clock[i + 1] - clock[i])
        times.seconds["step"].append(clock[3] - clock[0])

    # --- sampling ----------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, samples: Sequence[Sample], seed: int) -> Rollouts:
        """`group_size` images per prompt, one micro-batch of images at a time."""
        self.transformer.eval()
        rows = [(s, i) for s in samples for i in range(self.case.group_size)]
        B = self.case.micro_batch
        parts = [self._sample_batch(rows[i : i + B], seed) for i in range(0, len(rows), B)]
        self.transformer.train()
        return Rollouts(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _sample_batch(self, rows: Sequence[tuple[Sample, int]], seed: int) -> tuple[Tensor, ...]:
        prompts = [" ".join(sample.texts) for sample, _ in rows]
        context, pooled = self._encode(prompts) if self.kept is None else self._look_up(prompts)
        side = self.case.latent_px
        shape = (self.transformer.config.in_channels, side, side)
        # vlrl's seeds, so that both sides see the same noise.
        x = torch.stack(
            [
                torch.randn(shape, generator=_generator(seed, f"{sample.id}/start", i))
                for sample, i in rows
            ]
        )
        noise = [_generator(seed, f"{sample.id}/steps", i) for sample, i in rows]
        latents, logps = [x], []
        for j in range(self.case.num_steps):
            v = self.velocity(x, j, context, pooled)
            if j < self.num_trained:
                mean, std = self.transition(x, v, j)
                x = mean + std * torch.stack([torch.randn(shape, generator=g) for g in noise])
                logps.append(gaussian_logp(x, mean, std))
            else:
                x = x + (self.sigmas[j + 1] - self.sigmas[j]) * v
            latents.append(x)
        vae = self.pipeline.vae
        decoded = vae.decode(x / vae.config.scaling_factor + vae.config.shift_factor).sample
        images = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        steps = torch.stack(latents, dim=1), torch.stack(logps, dim=1)
        return context, pooled, *steps, images.permute(0, 2, 3, 1)

    @torch.no_grad()
    def _encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """All three text encoders on every row, repeated prompts included."""
        started = time.perf_counter()
        context, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=prompts,
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.case.size.max_tokens,
        )
        self.encoding_s += time.perf_counter() - started
        return context, pooled

    def _look_up(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        assert self.kept is not None
        for prompt in set(prompts) - set(self.kept):
            self.kept[prompt] = self._encode([prompt])
        found = [self.kept[prompt] for prompt in prompts]
        return torch.cat([c for c, _ in found]), torch.cat([p for _, p in found])

    def velocity(self, x: Tensor, j: int, context: Tensor, pooled: Tensor) -> Tensor:
        """Guided: the batch doubled, without and with the prompt, in one forward."""
        B = len(x)
        nothing, nothing_pooled = self.negative
        without, given = self.transformer(
            hidden_states=torch.cat([x, x]),
            timestep=self.scheduler.timesteps[j].expand(2 * B),
            encoder_hidden_states=torch.cat([nothing.expand(B, -1, -1), context]),
            pooled_projections=torch.cat([nothing_pooled.expand(B, -1), pooled]),
            return_dict=False,
        )[0].chunk(2)
        return without + self.case.guidance * (given - without)

    def transition(self, x: Tensor, v: Tensor, j: int) -> tuple[Tensor, float]:
        """Mean and standard deviation of the stochastic step j (arXiv 2505.05470, eq. 9)."""
        sigma, dt = self.sigmas[j], self.sigmas[j + 1] - self.sigmas[j]
        s = self.case.noise * math.sqrt(sigma / (1 - (self.sigmas[1] if j == 0 else sigma)))
        drift = s * s / (2 * sigma)
        mean = x * (1 + drift * dt) + v * (1 + drift * (1 - sigma)) * dt
        return mean, s * math.sqrt(-dt)

    # --- update ------------------------------------------------------------------------------

    def advantages(self, rewards: Tensor) -> Tensor:
        """Centred and divided by the standard deviation within each group, [N]."""
        grouped = rewards.view(-1, self.case.group_size)
        centred = grouped - grouped.mean(1, keepdim=True)
        return (centred / (grouped.std(1, keepdim=True) + 1e-4)).flatten()

    def update(self, rollouts: Rollouts, advantage: Tensor) -> None:
        """One backward per micro-batch and trained step, an optimizer step after each minibatch."""
        B, N = self.case.micro_batch, len(advantage) // self.case.num_minibatches
        bound = self.case.clip
        for start in range(0, len(advantage), B):
            rows = slice(start, start + B)
            A = advantage[rows]
            for j in range(self.num_trained):
                x, following = rollouts.latents[rows, j], rollouts.latents[rows, j + 1]
                v = self.velocity(x, j, rollouts.context[rows], rollouts.pooled[rows])
                mean, std = self.transition(x, v, j)
                ratio = (gaussian_logp(following, mean, std) - rollouts.logp[rows, j]).exp()
                worse = torch.max(-A * ratio, -A * ratio.clamp(1 - bound, 1 + bound))
                self.stepper.backward(worse.mean() / (N // B * self.num_trained))
            if (start + B) % N == 0:
                self.stepper.step()


def gaussian_logp(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """Mean log-density over all dimensions but the first."""
    each = -((x - mean) ** 2) / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi)
    return each.flatten(1).mean(1)


def _generator(seed: int, name: str, index: int) -> torch.Generator:
    return torch.Generator().manual_seed(row_seed(seed, name, index))
