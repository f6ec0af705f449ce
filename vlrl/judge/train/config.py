"""Every key of a judge's training; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from vlrl.config.schema import DistConfig, LogConfig, OptimConfig
from vlrl.config.section import MAX_WHOLE, LoraSection, Section
from vlrl.judge.data.preference import PreferenceSource
from vlrl.judge.question import DEFAULT_CRITERIA, Example, JudgeTemplate


class StageConfig(Section):
    """A part of the training with data of its own."""

    name: str
    data: tuple[PreferenceSource, ...] = Field(min_length=1)
    num_steps: PositiveInt
    singles: float = Field(
        0.0, ge=0, le=1, description="share of pairs asked one by one: chosen yes, rejected no"
    )


class HeldOutConfig(Section):
    """Pairs for evaluation only."""

    data: PreferenceSource
    limit: NonNegativeInt = Field(0, description="pairs, spread evenly; 0 = all")


class JudgeTrainConfig(Section):
    """A judge's training, in stages (RewardDance: broad preferences, then targeted ones)."""

    name: str = Field(min_length=1)
    out: str = Field("runs", min_length=1)
    seed: int = Field(0, ge=0, le=MAX_WHOLE)
    model: str
    kind: Literal["yes_token", "bradley_terry"] = Field(
        "yes_token", description="bradley_terry: a regression head on single images, the baseline"
    )
    criteria: str = DEFAULT_CRITERIA
    template: JudgeTemplate = JudgeTemplate()
    examples: tuple[Example, ...] = ()
    train_vision: bool = True
    lora: LoraSection | None = None
    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    share_prompt: bool = Field(
        True, description="common prefixes once; off: padded rows, for small models"
    )
    batch_size: PositiveInt = Field(32, description="pairs per step, over all ranks")
    both_orders: bool = Field(True, description="swap augmentation: each pair in both orders")
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    held_out: dict[str, HeldOutConfig] = Field({}, description="pairs for evaluation only, by name")
    eval_every: NonNegativeInt = Field(0, description="steps; 0 = only before and after")
    save_every: NonNegativeInt = Field(0, description="steps; 0 = by time, and at the end")
    save_every_minutes: NonNegativeFloat = Field(
        30.0, description="minutes between checkpoints; 0 = off"
    )
    save_beside_training: Literal["auto", "on", "off"] = Field(
        "auto", description="as `checkpoint.beside_training` of a run"
    )
    log_every: PositiveInt = Field(10, description="steps between lines of training metrics")
    log: LogConfig = LogConfig()
    optim: OptimConfig = OptimConfig(lr=1e-5)
    dist: DistConfig = DistConfig()

    @property
    def num_steps_total(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.num_steps for stage in self.stages)

    @model_validator(mode="after")
    def _check(self) -> JudgeTrainConfig:
        if self.optim.ema_decay:
            raise ValueError("optim.ema_decay: judges are trained without a running average")
        if self.dist.sequence_parallel > 1:
            raise ValueError("dist.sequence_parallel: judges are trained on whole rows; leave out")
        for key, words in (("yes", self.template.yes), ("no", self.template.no)):
            # The first word of each is what the judge learns to say.
            if not words or not all(word.strip() for word in words):
                raise ValueError(f"template.{key}: takes one word or more, not {list(words)}")
        if "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"name {self.name!r} is a folder's name, without slashes")
        return self
