"""A small DINOv2-class backbone, trained here without labels by the DINO recipe."""

from __future__ import annotations

import copy
import json
import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from scripts.assets.models.image.augment import colours, crops, soften
from scripts.assets.models.image.clock import Clock

SIZE_PX, LOCAL_PX, PATCH_PX = 64, 32, 8
NUM_LOCAL = 4
MEAN, STD = 0.5, 0.25
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
CENTRE_MOMENTUM = 0.9


class Projected(nn.Module):
    """The backbone with DINO's projection to prototypes."""

    def __init__(self, backbone: Dinov2Model, num_prototypes: int = 1024, width: int = 256) -> None:
        super().__init__()
        self.backbone = backbone
        dim = backbone.config.hidden_size
        self.project = nn.Sequential(
            nn.Linear(dim, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 64),
        )
        self.prototypes = nn.utils.parametrizations.weight_norm(
            nn.Linear(64, num_prototypes, bias=False)
        )
        self.prototypes.parametrizations.weight.original0.data.fill_(1)
        self.prototypes.parametrizations.weight.original0.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, prototypes]."""
        cls = self.backbone(pixel_values=(images - MEAN) / STD).last_hidden_state[:, 0]
        return self.prototypes(functional.normalize(self.project(cls), dim=-1))


def new_backbone() -> Dinov2Model:
    """Half a million parameters, patches of 8 pixels."""
    return Dinov2Model(
        Dinov2Config(
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=3,
            mlp_ratio=4,
            image_size=SIZE_PX,
            patch_size=PATCH_PX,
            drop_path_rate=0.0,
            layerscale_value=1.0,
        )
    )


def train_dino(images: Tensor, clock: Clock, *, batch: int, lr: float, log: Any) -> Dinov2Model:
    """Self-distillation over crops; returns the teacher.

    images: uint8 [N, 3, H, W]. Source: DINO (arXiv 2104.14294): two global and some local crops,
    cross-entropy against the centred and sharpened teacher, which is an average of the student.
    """
    student = Projected(new_backbone())
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.04)
    centre = torch.zeros(1, student.prototypes.out_features)
    num_steps = 0
    while clock.running:
        picked = images[torch.randint(len(images), (batch,))].float() / 255
        views = [soften(colours(crops(picked, SIZE_PX, 0.5, 1.0), 0.3), 0.5) for _ in range(2)]
        small = [colours(crops(picked, LOCAL_PX, 0.1, 0.4), 0.3) for _ in range(NUM_LOCAL)]
        with torch.no_grad():
            target = teacher(torch.cat(views))
            goal = ((target - centre) / TEACHER_TEMPERATURE).softmax(-1).chunk(2)
            centre = centre.lerp(target.mean(0, keepdim=True), 1 - CENTRE_MOMENTUM)
        seen = [*student(torch.cat(views)).chunk(2), *student(torch.cat(small)).chunk(NUM_LOCAL)]
        loss, pairs = torch.zeros(()), 0
        for i, wanted in enumerate(goal):
            for j, given in enumerate(seen):
                if i != j:
                    logp = (given / STUDENT_TEMPERATURE).log_softmax(-1)
                    loss, pairs = loss - (wanted * logp).sum(-1).mean(), pairs + 1
        loss = loss / pairs
        for group in optimizer.param_groups:
            group["lr"] = lr * clock.factor
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimizer.step()
        momentum = 1 - 0.01 * 0.5 * (1 + math.cos(math.pi * clock.share))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(teacher.parameters()), list(student.parameters()), 1 - momentum
            )
        num_steps += 1
        if num_steps % 50 == 0:
            spread = float(target.std(0).mean())
            row = {"part": "dino", "step": num_steps, "loss": float(loss.detach())}
            seconds = round(time.time() - clock.start)
            log.write(json.dumps({**row, "spread": spread, "time": seconds}) + "\n")
            log.flush()
    return teacher.backbone.eval()


def processor() -> BitImageProcessor:
    """The checkpoint's sizes and normalisation."""
    return BitImageProcessor(
        size={"shortest_edge": SIZE_PX},
        crop_size={"height": SIZE_PX, "width": SIZE_PX},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )
