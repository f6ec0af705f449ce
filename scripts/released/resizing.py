"""How HPS v2 and Adv-GRPO resize images that a network then reads."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torchvision.transforms import InterpolationMode, functional

from released.comparison import Answer, Comparison, Json
from released.flow_grpo import image_of
from released.source import Source

HPS, HPS_COMMIT = "tgxs002/HPSv2", "866735ecaae999fa714bd9edfa05aa2672669ee3"
HPS_FILE = "hpsv2/src/open_clip/transform.py"
ADV, ADV_COMMIT = "showlab/Adv-GRPO", "8287f9085a59c4fc48f8e80dbf0528fcf734766e"
SIDE_PX = 16
"""Of the networks' inputs (HPS v2: 224, Adv-GRPO: 518), to keep the comparison small."""
NUM_PLACES = 16


def small_images(rng: random.Random) -> list[Json]:
    """[seed, height, width, share of noise]; see `image_of`."""
    return [
        [seed, rng.randrange(8, 90), rng.randrange(8, 90), round(rng.random(), 2)]
        for seed in range(200)
    ]


def places(image: torch.Tensor) -> list[float]:
    """Some values of an image that a network reads."""
    flat = image.flatten()
    some = flat[torch.linspace(0, len(flat) - 1, NUM_PLACES).long()]
    return [float(f"{value:.7g}") for value in some.tolist()]


def hps(source: Source) -> Answer:
    """`ResizeMaxSize` of a tensor, without antialiasing as in torchvision before 0.17."""
    of_its_time = SimpleNamespace(
        resize=lambda image, size, mode: functional.resize(image, size, mode, antialias=False),
        pad=functional.pad,
    )
    given = {"torch": torch, "nn": nn, "F": of_its_time, "InterpolationMode": InterpolationMode}
    resize: Any = source.define(HPS_FILE, ["ResizeMaxSize"], given)["ResizeMaxSize"](SIDE_PX)
    return lambda row: places(resize(torch.from_numpy(image_of(row)).permute(2, 0, 1) / 255))


def adv_grpo(source: Source) -> Answer:
    """What `image_similarity_score` gives to its network, [3, S, S]."""
    seen: list[torch.Tensor] = []

    class Network(nn.Module):
        """In place of DINOv2."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.ones(1, 1)

    name = "image_similarity_score"
    make: Any = source.define("adv_grpo/rewards.py", [name])[name]
    with patch.dict(sys.modules, timm=SimpleNamespace(create_model=lambda *a, **k: Network())):
        score = make("cpu")
    resize = nn.functional.interpolate

    def smaller(images: torch.Tensor, size: object, **how: Any) -> torch.Tensor:
        return resize(images, (SIDE_PX, SIDE_PX), **how)

    def answer(row: Json) -> Json:
        seen.clear()
        image = image_of(row)[None].astype(np.float32)
        with patch.object(nn.functional, "interpolate", smaller):
            score(image, image)
        return places(seen[0][0])

    return answer


COMPARISONS = [
    Comparison("hps_v2_resizing", HPS, HPS_COMMIT, HPS_FILE, small_images, hps),
    Comparison("adv_grpo_resizing", ADV, ADV_COMMIT, "adv_grpo/rewards.py", small_images, adv_grpo),
]
