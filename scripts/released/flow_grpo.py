"""flow_grpo's advantages, SDE step, running average, OCR and JPEG rewards."""

from __future__ import annotations

import io
import math
import random
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from released.comparison import Answer, Comparison, Json
from released.source import AnyType, Source

REPOSITORY, COMMIT = "yifan123/flow_grpo", "ac4c86e8cae021841f1fde853d340e0db67690dd"


def reward_groups(rng: random.Random) -> list[Json]:
    """[rewards, group of each, whether one deviation serves all], groups of 2 to 24."""
    rows: list[Json] = []
    for number in range(220):
        size, count = rng.choice((2, 3, 8, 24)), rng.choice((1, 2))
        shared = number % 12 == 0
        rewards = [
            0.5 if shared else round(rng.choice((rng.random(), rng.gauss(3, 2), 1.0)), 2)
            for _ in range(size * count)
        ]
        groups = [place // size for place in range(size * count)]
        rows.append([rewards, groups, bool(number % 2)])
    return rows


def released_advantages(source: Source) -> Answer:
    """`PerPromptStatTracker.update`, prompts named by their group."""
    made = source.define(
        "flow_grpo/stat_tracking.py", ["PerPromptStatTracker"], {"np": np, "torch": torch}
    )

    def answer(row: Json) -> Json:
        rewards, groups, shared = row
        tracker = made["PerPromptStatTracker"](shared)
        found = tracker.update([f"{g:03d}" for g in groups], rewards)
        return [float(f"{value:.7g}") for value in found]

    return answer


def steps(rng: random.Random) -> list[Json]:
    """[sigma, next, second of the schedule, noise, x, v, next x]: steps of shifted schedules."""
    rows: list[Json] = []
    for number in range(220):
        count, shift = rng.choice((4, 6, 10, 28, 40)), rng.choice((1.0, 3.0))
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(count)
        sigmas = [round(float(s), 6) for s in scheduler.sigmas]
        # The last step ends at 0, where the first sigma is never 1 but in the first step.
        place = 0 if number % 11 == 0 else rng.randrange(count)
        latents = [[round(rng.gauss(0, 1), 3) for _ in range(4)] for _ in range(3)]
        noise = rng.choice((0.3, 0.7, 0.9, 1.2))
        rows.append([sigmas[place], sigmas[place + 1], sigmas[1], noise, *latents])
    return rows


def released_step(source: Source) -> Answer:
    """`sde_step_with_logprob` -> [mean, ..., log-prob]."""
    names = ["sde_step_with_logprob"]
    given = {
        "math": math,
        "torch": torch,
        "Union": AnyType,
        "Optional": AnyType,
        "FlowMatchEulerDiscreteScheduler": FlowMatchEulerDiscreteScheduler,
    }
    path = "flow_grpo/diffusers_patch/sd3_sde_with_logprob.py"
    made = source.define(path, names, given)

    def answer(row: Json) -> Json:
        sigma, following, second, noise, x, v, after = row
        # The schedule's second entry, at place 1, and the step itself, from place 3 to 4.
        sigmas = torch.tensor([1.0, second, 0.0, sigma, following])
        self = SimpleNamespace(sigmas=sigmas, index_for_timestep=lambda t: 3)
        latents = [torch.tensor(values).view(1, 1, 2, 2) for values in (v, x, after)]
        found = made["sde_step_with_logprob"](self, latents[0], [0], latents[1], noise, latents[2])
        _, logp, mean, _ = found
        return [float(f"{value:.8g}") for value in [*mean.flatten().tolist(), logp.item()]]

    return answer


def averages(rng: random.Random) -> list[Json]:
    """[decay, every, micro-batches, optimizer steps, slope]; see `weight_after`."""
    return [
        [
            rng.choice((0.9, 0.9, 0.5, 0.99)),
            rng.choice((1, 3, 8, 8)),
            rng.choice((1, 2, 6)),
            rng.randrange(1, 130),
            round(rng.uniform(0.01, 1), 3),
        ]
        for _ in range(220)
    ]


def weight_after(step: int, slope: float) -> float:
    """A weight after an optimizer step, in [0, 1)."""
    return step * slope % 1


def released_average(source: Source) -> Answer:
    """`EMAModuleWrapper` as its training loop calls it, up to the step that would come next."""
    given = {"torch": torch, "Iterable": AnyType}
    made = source.define("flow_grpo/ema.py", ["EMAModuleWrapper"], given)

    def answer(row: Json) -> Json:
        decay, every, num_micro, num_steps, slope = row
        weight = torch.nn.Parameter(torch.zeros(1))
        average = made["EMAModuleWrapper"]([weight], decay, every, "cpu")
        for step in range(1, num_steps + 1):
            # A step is taken in its last micro-batch; the next one's others see its weights.
            weight.data.fill_(weight_after(step, slope))
            for _ in range(num_micro):
                average.step([weight], step)
        return float(f"{average.ema_parameters[0].item():.8g}")

    return answer


WORDS = ("OPEN", "Hello World", "24/7", "café", "a", "New York", "STOP here", "x y z", "Grüße")


def readings(rng: random.Random) -> list[Json]:
    """[lines read, requested text]: equal, contained, near, far, empty."""
    rows: list[Json] = [[[], word] for word in WORDS] + [[[word], word] for word in WORDS]
    while len(rows) < 220:
        word = rng.choice(WORDS)
        read = list(word)
        for _ in range(rng.randrange(6)):
            place = rng.randrange(len(read) + 1)
            read[place : place + rng.randrange(2)] = rng.choice(("", "q", " ", "O", "ab"))
        text = "".join(read)
        text = rng.choice((text, text.upper(), f"the {text} end", text * 3))
        cut = rng.randrange(len(text) + 1)
        rows.append([[part for part in (text[:cut], text[cut:]) if part], word])
    return rows


@cache
def edits(one: str, other: str) -> int:
    """Levenshtein's distance by its definition; the release takes it from a package."""
    if not one or not other:
        return len(one) + len(other)
    kept = edits(one[1:], other[1:]) + (one[0] != other[0])
    return min(kept, edits(one[1:], other) + 1, edits(one, other[1:]) + 1)


def released_ocr(source: Source) -> Answer:
    """`OcrScorer` behind a reader that has read these lines."""
    reader = SimpleNamespace(lines=[])
    reader.ocr = lambda image, cls: [[[None, (line, 0.9)] for line in reader.lines] or None]
    given = {
        "PaddleOCR": lambda **options: reader,
        "torch": torch,
        "np": np,
        "distance": edits,
        "List": AnyType,
        "Union": AnyType,
        "Image": Image,
    }
    scorer = source.define("flow_grpo/ocr.py", ["OcrScorer"], given)["OcrScorer"]()

    def answer(row: Json) -> Json:
        reader.lines, word = row
        (reward,) = scorer([np.zeros((2, 2, 3), np.uint8)], [f'a sign with "{word}" on it'])
        return reward

    return answer


def images(rng: random.Random) -> list[Json]:
    """[seed, height, width, share of noise]; see `image_of`."""
    return [
        [seed, rng.randrange(1, 90), rng.randrange(1, 90), round(rng.random(), 2)]
        for seed in range(200)
    ]


def image_of(row: Json) -> np.ndarray:
    """A gradient with noise, uint8 [H, W, 3]."""
    seed, height, width, noise = row
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    random_ = np.random.default_rng(seed).integers(0, 256, ramp.shape)
    return ((1 - noise) * ramp + noise * random_).astype(np.uint8)


def released_jpeg(source: Source) -> Answer:
    """`jpeg_compressibility` of one image."""
    names = ["jpeg_incompressibility", "jpeg_compressibility"]
    given = {"torch": torch, "np": np, "Image": Image, "io": io}
    made = source.define("flow_grpo/rewards.py", names, given)
    return lambda row: float(made["jpeg_compressibility"]()([image_of(row)], [""], [{}])[0][0])


COMPARISONS = [
    Comparison(name, REPOSITORY, COMMIT, file, inputs, released)
    for name, file, inputs, released in (
        ("flow_grpo_advantages", "flow_grpo/stat_tracking.py", reward_groups, released_advantages),
        (
            "flow_grpo_sde_step",
            "flow_grpo/diffusers_patch/sd3_sde_with_logprob.py",
            steps,
            released_step,
        ),
        ("flow_grpo_average", "flow_grpo/ema.py", averages, released_average),
        ("flow_grpo_ocr", "flow_grpo/ocr.py", readings, released_ocr),
        ("flow_grpo_jpeg", "flow_grpo/rewards.py", images, released_jpeg),
    )
]
