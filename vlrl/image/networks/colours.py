"""The colour of an object, named by CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlrl.image.geneval import COLOURS
from vlrl.image.networks.clip import ClipNetwork, unit

TEMPLATES = (
    "a photo of a {colour} {name}",
    "a photo of a {colour}-colored {name}",
    "a photo of a {colour} object",
)
"""GenEval's three sentences."""


class ColourNamer:
    """GenEval's zero-shot classifier: the nearest of ten colours, mean over three sentences."""

    def __init__(self, clip: ClipNetwork, batch_size: int = 32) -> None:
        self.clip, self.batch_size = clip, batch_size
        self._classifiers: dict[str, Tensor] = {}

    @torch.no_grad()
    def name(self, crops: Sequence[np.ndarray], names: Sequence[str]) -> list[str]:
        """A colour for every crop (uint8 [h, w, 3]) of an object of that class."""
        colours: list[str] = []
        for start in range(0, len(crops), self.batch_size):
            part = slice(start, start + self.batch_size)
            features = self.clip.image_features(crops[part])
            weights = torch.stack([self._classifier(name) for name in names[part]])
            nearest = torch.einsum("nd,ncd->nc", features, weights).argmax(-1)
            colours += [COLOURS[int(index)] for index in nearest]
        return colours

    def _classifier(self, name: str) -> Tensor:
        """[colours, D]: the mean of each colour's sentences, normalised to length 1."""
        if name not in self._classifiers:
            texts = [
                template.format(colour=colour, name=name)
                for colour in COLOURS
                for template in TEMPLATES
            ]
            features = self.clip.text_features(texts)
            self._classifiers[name] = unit(
                features.reshape(len(COLOURS), len(TEMPLATES), -1).mean(1)
            )
        return self._classifiers[name]


def crop(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The part of an image inside a box (xyxy, pixels), at least one pixel wide and high."""
    height, width = image.shape[:2]
    left, top = (min(max(round(box[i]), 0), size - 1) for i, size in ((0, width), (1, height)))
    right = max(min(round(box[2]), width), left + 1)
    bottom = max(min(round(box[3]), height), top + 1)
    return image[top:bottom, left:right]
