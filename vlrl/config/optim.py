"""The optimizer's options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from vlrl.config.section import Section

Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Section):
    """AdamW and its schedule."""

    lr: float = Field(1e-6, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    num_warmup_steps: int = Field(0, ge=0)
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    grad_clip_norm: NonNegativeFloat = Field(1.0, description="0 switches clipping off")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="running average of the trained weights, for evaluation; 0 = off",
    )
    ema_every: PositiveInt = Field(1, description="optimizer steps between updates of the average")
    ema_repeats: PositiveInt = Field(
        1, description="times that each update is applied; flow_grpo: once per micro-batch"
    )
