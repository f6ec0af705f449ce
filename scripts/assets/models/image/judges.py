"""Small classifiers that training never sees: which style, and which concept, an image shows."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BitImageProcessor, ResNetConfig, ResNetForImageClassification

from scripts.assets.models.image.augment import colours, crops, soften
from scripts.assets.models.image.clock import Clock

SIZE_PX = 64
MEAN, STD = 0.5, 0.25


def new_classifier(names: Sequence[str]) -> ResNetForImageClassification:
    """A ResNet of a few hundred thousand parameters."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=24,
            hidden_sizes=[24, 48, 96, 160],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            downsample_in_first_stage=False,
            id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )
    )


def train_classifier(
    names: Sequence[str], images: Tensor, labels: Tensor, clock: Clock, *, lr: float, log: Any
) -> ResNetForImageClassification:
    """Cross-entropy on shifted, recoloured, softened images; images: uint8 [N, 3, H, W]."""
    model = new_classifier(names)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    model.train()
    num_steps = 0
    while clock.running:
        rows = torch.randint(len(images), (64,))
        picked = images[rows].float() / 255
        picked = soften(colours(crops(picked, SIZE_PX, 0.8, 1.0), 0.2), 0.7)
        logits = model(pixel_values=(picked - MEAN) / STD).logits
        loss = functional.cross_entropy(logits, labels[rows], label_smoothing=0.05)
        for group in optimizer.param_groups:
            group["lr"] = lr * clock.factor
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        num_steps += 1
        if num_steps % 50 == 0:
            right = float((logits.argmax(-1) == labels[rows]).float().mean())
            row = {"part": f"judge of {len(names)}", "step": num_steps, "accuracy": right}
            log.write(json.dumps({**row, "time": round(time.time() - clock.start)}) + "\n")
            log.flush()
    return model.eval()


def processor() -> BitImageProcessor:
    """The checkpoints' sizes and normalisation."""
    return BitImageProcessor(
        do_center_crop=False,
        size={"height": SIZE_PX, "width": SIZE_PX},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )
