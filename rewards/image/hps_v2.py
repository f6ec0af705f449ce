"""HPS v2.1: an open_clip ViT-H-14 finetuned on human rankings of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlrl.reward.image_reward import ImageReward, ModelOptions
from vlrl.types import Rollout

if TYPE_CHECKING:
    from vlrl.image.networks.clip import ClipNetwork


class HpsOptions(ModelOptions):
    """Where the checkpoint is."""

    checkpoint: str = "HPS_v2.1_compressed.pt"
    """A file of weights (.pt, read with weights_only, or .safetensors)."""
    model: str = "ViT-H-14"
    published: bool = False
    """Resize the image's numbers without antialiasing, as the published code did with the
    torchvision of its time."""


class HpsV2(ImageReward):
    """Cosine of image and caption under the HPS v2.1 weights.

    The benchmark prints it times 100: the 31.34 of SDXL Refiner 0.9 is 0.3134 here. As
    published, the longer side is resized and the rest is black. The published code runs in
    half precision, here all is float32; it resizes tensors, here Pillow resizes, unless
    `published` is set.
    """

    Options = HpsOptions
    options: HpsOptions
    needs = frozenset({"image", "caption"})
    range = (-1.0, 1.0)
    formula = "cos(image embedding, caption embedding)"
    source = "HPS v2 (arXiv 2306.09341) and its code; v2.0 and v2.1 are not comparable"

    def load(self) -> None:
        """open_clip's model with the checkpoint's weights."""
        from vlrl.image.networks.clip import OpenClip

        self.clip: ClipNetwork = OpenClip(
            self.options.model,
            self.options.checkpoint,
            device=self.options.device,
            resize_mode="longest",
            antialias=not self.options.published,
        )

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
