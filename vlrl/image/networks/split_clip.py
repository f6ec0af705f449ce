"""A CLIP whose last vision layers may learn; the layers before them are computed separately."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlrl.errors import RewardError
from vlrl.image.networks.clip import TransformersClip, unit


class SplitClip(TransformersClip):
    """Images ──> `hidden` (frozen) ──> `embed`: the last layers, and the frozen ones after them.

    Together they are the model's vision tower, whose modules are shared, not copied.
    """

    def __init__(
        self, model: str, num_layers: int, *, processor: str | None = None, device: str = "auto"
    ) -> None:
        super().__init__(model, processor=processor, device=device)
        self._vision = self.model.vision_model
        layers = self._vision.encoder.layers
        if num_layers > len(layers):
            raise RewardError(
                f"{model!r} has {len(layers)} vision layers; num_layers is {num_layers}"
            )
        self._first, self.last = layers[:-num_layers], layers[-num_layers:]

    def hidden(self, images: Sequence[np.ndarray]) -> Tensor:
        """States before the last layers, [N, tokens, D].

        Plain tensors even if the caller is in inference mode: layers may learn on them.
        """
        with torch.inference_mode(False), torch.no_grad():
            states = self._vision.pre_layrnorm(self._vision.embeddings(self.pixels(images)))
            for layer in self._first:
                states = layer(states, None)
            return states

    def embed(self, hidden: Tensor) -> Tensor:
        """[N, tokens, D] -> embeddings of length 1, with gradient if the layers require it."""
        for layer in self.last:
            hidden = layer(hidden, None)
        return unit(self.model.visual_projection(self._vision.post_layernorm(hidden[:, 0])))

    def text(self, caption: str) -> Tensor:
        """Embedding of one caption, [D]; a plain tensor."""
        with torch.inference_mode(False):
            return self.text_features([caption])[0]
