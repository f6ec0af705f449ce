"""An object detector: boxes, class names and scores of many images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vlrl.hub import load_pretrained, loading, local_path, pick_device


@dataclass(frozen=True)
class Detected:
    """The objects found in one image, in arbitrary order."""

    boxes: np.ndarray
    """[N, 4] float64, xyxy in pixels of the image."""
    scores: np.ndarray
    """[N] float64 in [0, 1]."""
    labels: tuple[str, ...]
    """[N] class names of the detector."""


class Detector:
    """Any transformers object-detection model (DETR and its descendants), frozen, in float32."""

    def __init__(self, name_or_path: str, device: str = "auto", batch_size: int = 32) -> None:
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        self.name, self.batch_size = name_or_path, batch_size
        self.device = pick_device(device)
        with loading("object detector", name_or_path):
            self.processor: Any = AutoImageProcessor.from_pretrained(local_path(name_or_path))
            model: Any = load_pretrained(AutoModelForObjectDetection, name_or_path)
            self.model = model.to(self.device)
        self.labels: dict[int, str] = {
            int(index): str(label) for index, label in model.config.id2label.items()
        }

    def detect(self, images: Sequence[np.ndarray], threshold: float) -> list[Detected]:
        """Everything with a score above `threshold`, image by image."""
        found: list[Detected | None] = [None] * len(images)
        rows_of: dict[tuple[int, ...], list[int]] = {}
        # Only images of one size share a batch: padding would change the detections.
        for row, image in enumerate(images):
            rows_of.setdefault(image.shape, []).append(row)
        for rows in rows_of.values():
            for start in range(0, len(rows), self.batch_size):
                part = rows[start : start + self.batch_size]
                for row, one in zip(
                    part, self._detect([images[row] for row in part], threshold), strict=True
                ):
                    found[row] = one
        return [one for one in found if one is not None]

    @torch.no_grad()
    def _detect(self, images: Sequence[np.ndarray], threshold: float) -> list[Detected]:
        inputs = self.processor(
            images=list(images),
            return_tensors="pt",
            input_data_format="channels_last",
            device=self.device,
        )
        results = self.processor.post_process_object_detection(
            self.model(**inputs),
            threshold=threshold,
            target_sizes=[image.shape[:2] for image in images],
        )
        return [
            Detected(
                boxes=result["boxes"].double().cpu().numpy(),
                scores=result["scores"].double().cpu().numpy(),
                labels=tuple(self.labels[int(index)] for index in result["labels"]),
            )
            for result in results
        ]
