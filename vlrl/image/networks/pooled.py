"""Pooled features of a frozen vision model, for distances between sets of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vlrl.errors import RewardError
from vlrl.hub import freeze, load_pretrained, loading, local_path, pick_device


class PooledFeatures:
    """One vector per image, from any transformers vision model with pooled output (ResNet, ViT).

    Raises RewardError where the model cannot be loaded or has no pooled output.
    """

    def __init__(self, name: str, device: str = "auto", batch_size: int = 64) -> None:
        from transformers import AutoImageProcessor, AutoModel

        self.name, self.batch_size = name, batch_size
        self.device = pick_device(device)
        with loading("vision model", name):
            self._processor: Any = AutoImageProcessor.from_pretrained(local_path(name))
            model: Any = load_pretrained(AutoModel, name)
        self._model = freeze(model).to(self.device)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] each -> float32 [N, D]."""
        found = []
        for start in range(0, len(images), self.batch_size):
            part = list(images[start : start + self.batch_size])
            inputs = self._processor(images=part, return_tensors="pt").to(self.device)
            with torch.no_grad():
                pooled = self._model(**inputs).get("pooler_output")
            if pooled is None:
                raise RewardError(f"the vision model {self.name!r} has no pooled output")
            found.append(pooled.float().flatten(1).cpu().numpy())
        return np.concatenate(found)
