"""PickScore: a CLIP finetuned on which of two images people picked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveFloat

from vlrl.reward.image_reward import ImageReward, ModelOptions
from vlrl.types import Rollout

if TYPE_CHECKING:
    from vlrl.image.networks.clip import ClipNetwork


class PickOptions(ModelOptions):
    """The checkpoint, and the number that its score is divided by."""

    model: str = "yuvalkirstain/PickScore_v1"
    processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    divide_by: PositiveFloat = 26.0
    """Flow-GRPO's 26 brings good images near 1; with 1 the score is PickScore's own."""
    logit_scale: PositiveFloat = 100.0
    """Upper limit of the checkpoint's logit scale: CLIP's own. Sets the range."""


class PickScore(ImageReward):
    """exp(logit_scale) * cosine / divide_by, in float32 and with 77 tokens.

    Typical values lie between 0.7 and 0.95: a paper's PickScore of 23.8 is 0.915 here.
    """

    Options = PickOptions
    options: PickOptions
    needs = frozenset({"image", "caption"})
    range = (-100 / 26, 100 / 26)
    formula = "exp(logit_scale) cos(image, caption) / divide_by"
    units = "PickScore logits over divide_by"
    source = "Pick-a-Pic (arXiv 2305.01569); the division by 26 is Flow-GRPO's (arXiv 2505.05470)"

    def __init__(self, options: PickOptions) -> None:
        super().__init__(options)
        limit = options.logit_scale / options.divide_by
        self.range = (-limit, limit)

    def load(self) -> None:
        """The checkpoint; raises RewardError if its scale is beyond the declared range."""
        from vlrl.image.networks.clip import TransformersClip, scale_within

        o = self.options
        self.clip: ClipNetwork = TransformersClip(o.model, processor=o.processor, device=o.device)
        self.factor = scale_within(self.clip, o.logit_scale, o.model) / o.divide_by

    def image_features(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> np.ndarray:
        """Normalised embeddings."""
        return self.clip.image_features(images).double().cpu().numpy()

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One scaled cosine per image."""
        captions = [rollout.sample.target.caption for rollout in rollouts]
        return (self.factor * self.clip.cosines(images, captions).double()).tolist()
