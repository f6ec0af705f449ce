"""CLIP score: how near the image lies to its caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlrl.image.clip_options import ClipOptions
from vlrl.reward.image_reward import ImageReward
from vlrl.types import Rollout

if TYPE_CHECKING:
    from vlrl.image.networks.clip import ClipNetwork


class ClipScore(ImageReward):
    """Cosine of the image's and the caption's embeddings, unscaled.

    Others scale it: CLIPScore by 2.5, cut off at 0; torchmetrics by 100; Flow-GRPO by
    100 / 30. Good images lie near 0.3, so under `sum` give it a weight.
    """

    Options = ClipOptions
    options: ClipOptions
    needs = frozenset({"image", "caption"})
    range = (-1.0, 1.0)
    formula = "cos(image embedding, caption embedding)"
    source = "CLIPScore (arXiv 2104.08718) without its factor 2.5 and its cut at 0"

    def load(self) -> None:
        """The CLIP of the options."""
        from vlrl.image.networks.clip import load_clip

        self.clip: ClipNetwork = load_clip(self.options)

    def image_features(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> np.ndarray:
        """Normalised embeddings."""
        return self.clip.image_features(images).double().cpu().numpy()

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One cosine per image."""
        captions = [rollout.sample.target.caption for rollout in rollouts]
        return self.clip.cosines(images, captions).tolist()
