"""A regression head as the reward: the baseline that a yes-token judge is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, PositiveInt

from vlrl.judge.question import (
    DEFAULT_CRITERIA,
    Ask,
    ImageBook,
    JudgeTemplate,
    Questions,
    template_of,
)
from vlrl.reward.image_reward import ImageReward, ModelOptions
from vlrl.types import Rollout

if TYPE_CHECKING:
    from vlrl.judge.head import HeadJudge


class PreferenceHeadOptions(ModelOptions):
    """The trained folder, and how its scores are clipped."""

    model: str = "runs/judge/model"
    """What `vlrl train-judge` wrote with `kind: bradley_terry`."""
    limit: float = Field(20.0, gt=0)
    """Scores are clipped to +-limit; a difference of 1 wins with 73 %."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    max_tokens: PositiveInt = 8192


class PreferenceHead(ImageReward):
    """A linear score of the last hidden state of a vision-language model, trained on pairs.

    Only differences mean something: sigmoid(a - b) is the probability that a is preferred to b.
    """

    Options = PreferenceHeadOptions
    noisy = True
    options: PreferenceHeadOptions
    needs = frozenset({"image", "caption"})
    in_tf32 = False
    range = (-20.0, 20.0)
    formula = "w . h + b, h the last hidden state after caption and image"
    units = "logits of preference"
    source = "Bradley-Terry reward models, e.g. Skywork-Reward-V2 (arXiv 2507.01352); no reference"

    def __init__(self, options: PreferenceHeadOptions) -> None:
        super().__init__(options)
        self.range = (-options.limit, options.limit)

    def models(self) -> Mapping[str, int]:
        """The judge, in bf16 unless the options say otherwise."""
        size = 4 if self.options.precision == "fp32" else 2
        return dict.fromkeys(super().models(), size)

    def load(self) -> None:
        """The head and the texts that it was trained with."""
        from vlrl.judge.head import HeadJudge

        o = self.options
        self.head: HeadJudge = HeadJudge.load(
            o.model, device=o.device, precision=o.precision, max_tokens=o.max_tokens
        )
        template, criteria = template_of(o.model)
        self.questions = Questions(template or JudgeTemplate(), criteria or DEFAULT_CRITERIA)

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One score per image."""
        low, high = self.range
        found = self.head.scores(*self._asks(images, rollouts))
        return [min(max(value, low), high) for value in found]

    def image_features(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> np.ndarray:
        """The last hidden state after caption and image."""
        return self.head.features(*self._asks(images, rollouts)).double().numpy()

    def _asks(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> tuple[ImageBook, list[Ask]]:
        book = ImageBook()
        return book, [
            self.questions.single(book, rollout.sample.target.caption, image)
            for image, rollout in zip(images, rollouts, strict=True)
        ]
