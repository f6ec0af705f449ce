"""Noise levels of a rollout, and which of its steps are stochastic and trained."""

from __future__ import annotations

import random

import numpy as np

from vlrl.algo.flow import STEPS, Step, euler
from vlrl.families.interfaces import Scheduler
from vlrl.policy.flow.options import FlowConfig


def noise_levels(scheduler: Scheduler, num_steps: int, num_image_tokens: int) -> list[float]:
    """Sigmas of a schedule, [num_steps + 1], from 1 (noise) to 0, as diffusers' pipelines set them.

    With dynamic shifting (FLUX) the shift depends on the number of image tokens, and is applied to
    evenly spaced sigmas.
    """
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        scheduler.set_timesteps(num_steps)
        return [float(s) for s in scheduler.sigmas]
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = low + (high - low) * (num_image_tokens - first) / (last - first)
    sigmas = np.linspace(1.0, 1 / num_steps, num_steps)
    scheduler.set_timesteps(num_steps, sigmas=sigmas.tolist(), mu=mu)
    return [float(s) for s in scheduler.sigmas]


def trained_steps(options: FlowConfig, version: int) -> list[int]:
    """Indices of the stochastic steps of rollouts by weights of this version.

    They depend on the version alone, so that they are the same on all ranks and for groups that
    are resampled within a step.
    """
    window = options.window
    if window is None:
        return list(range(options.num_steps - 1))
    stop = window.stop if window.stop is not None else options.num_steps - 1
    num_places = stop - window.start - window.num_steps + 1
    place = {
        "fixed": 0,
        "random": random.Random(version).randrange(num_places),
        "sliding": version // window.slide_every % num_places,
    }[window.placement]
    first = window.start + place
    return list(range(first, first + window.num_steps))


def steps_of(options: FlowConfig, sigmas: list[float], stochastic: list[int]) -> list[Step]:
    """Every step of a rollout: the `stochastic` ones with noise, all others along the ODE."""
    return [
        STEPS[options.dynamics](sigmas[i], sigmas[i + 1], options.noise_level, sigmas[1])
        if i in stochastic
        else euler(sigmas[i], sigmas[i + 1])
        for i in range(len(sigmas) - 1)
    ]
