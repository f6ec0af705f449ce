"""Adv-GRPO's loss of the discriminator, and its hybrid reward."""

from __future__ import annotations

import random
from types import SimpleNamespace

import torch
from PIL import Image

from released.comparison import Answer, Comparison, Json
from released.source import Source

REPOSITORY, COMMIT = "showlab/Adv-GRPO", "8287f9085a59c4fc48f8e80dbf0528fcf734766e"
FILE = "scripts/train_sd3_fast_dino_patch.py"


def logits(rng: random.Random) -> list[Json]:
    """[CLS of references, of generated images, patches of each], one patch per image."""
    return [
        [
            [
                round(rng.gauss(0, 2), 3) if number % 9 else rng.choice((-1.0, 0.0, 1.0))
                for _ in range(size)
            ]
            for _ in range(4)
        ]
        for number in range(220)
        for size in (rng.choice((1, 2, 5)),)
    ]


def loss(source: Source) -> Answer:
    """`train_dino` with features that are the logits themselves -> [loss, accuracy]."""
    made = source.define(FILE, ["train_dino"])
    head = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.0)
    pixel = Image.new("RGB", (1, 1))

    def answer(row: Json) -> Json:
        real, fake, real_patch, fake_patch = (torch.tensor(values) for values in row)
        features = iter(
            torch.stack([cls, patch], 1)[..., None]
            for cls, patch in ((real, real_patch), (fake, fake_patch))
        )
        scorer = SimpleNamespace(eval=lambda: None, forward_features=lambda images: next(features))
        count = [pixel] * len(real)
        place = SimpleNamespace(device="cpu")
        value, right = made["train_dino"](scorer, head, None, count, count, optimizer, place)
        return [float(f"{value:.7g}"), right]

    return answer


COMPARISONS = [Comparison("adv_grpo_loss", REPOSITORY, COMMIT, FILE, logits, loss)]
