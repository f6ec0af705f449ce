"""LAION's aesthetic predictor v2: how much people like an image, whatever it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from vlrl.errors import RewardError
from vlrl.image.clip_options import ClipOptions
from vlrl.reward.image_reward import ImageReward
from vlrl.types import Rollout

if TYPE_CHECKING:
    from vlrl.image.networks.clip import ClipNetwork

WIDTH = 768
"""Size of an embedding of CLIP ViT-L/14."""


class AestheticOptions(ClipOptions):
    """A CLIP ViT-L/14 with OpenAI's weights, and the predictor on top of it."""

    head: str = "sac+logos+ava1-l14-linearMSE.pth"
    """The predictor's weights, a torch file (read with weights_only) or .safetensors."""
    scale: Literal["unit", "rating"] = "unit"
    """unit: the rating over 10, in [0, 1]. rating: as the predictor gives it, in [0, 10]."""


class Aesthetic(ImageReward):
    """A rating from 1 to 10, by default over 10; clipped to 0 and 10, where no image should be.

    The predictor has no activations: it is one affine map of the normalised embedding, with the
    released weights 5.24 + w.e with |w| = 18.
    """

    Options = AestheticOptions
    options: AestheticOptions
    range = (0.0, 1.0)
    formula = "clip(MLP(e / |e|), 0, 10) / 10, e the image's CLIP ViT-L/14 embedding"
    units = "rating over 10; rating from 0 to 10 with scale: rating"
    source = "improved-aesthetic-predictor, sac+logos+ava1-l14-linearMSE (christophschuhmann)"

    def __init__(self, options: AestheticOptions) -> None:
        super().__init__(options)
        self.range = (0.0, 1.0 if options.scale == "unit" else 10.0)

    def load(self) -> None:
        """CLIP and the predictor; raises RewardError where they do not fit together."""
        from torch import nn

        from vlrl.hub import freeze, loading, read_weights
        from vlrl.image.networks.clip import load_clip

        self.clip: ClipNetwork = load_clip(self.options)
        # The places of the training code's dropouts stay, so that the names of weights fit.
        self.predictor = nn.Sequential(
            nn.Linear(WIDTH, 1024),
            nn.Identity(),
            nn.Linear(1024, 128),
            nn.Identity(),
            nn.Linear(128, 64),
            nn.Identity(),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )
        with loading("aesthetic predictor", self.options.head):
            weights = read_weights(self.options.head)
            self.predictor.load_state_dict(
                {name.removeprefix("layers."): tensor for name, tensor in weights.items()}
            )
        freeze(self.predictor).to(self.clip.device)

    def image_features(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> np.ndarray:
        """Normalised embeddings."""
        return self.clip.image_features(images).double().cpu().numpy()

    def values(
        self, images: Sequence[np.ndarray], rollouts: Sequence[Rollout]
    ) -> Sequence[float | None]:
        """One rating per image."""
        features = self.clip.image_features(images)
        if features.shape[1] != WIDTH:
            raise RewardError(
                f"{self.name}: {self.options.model!r} gives {features.shape[1]} numbers per image, "
                f"the predictor takes {WIDTH}; it was trained on CLIP ViT-L/14 of OpenAI"
            )
        rating = self.predictor(features)[:, 0].clamp(0, 10)
        return (rating / 10 if self.options.scale == "unit" else rating).tolist()
