"""Figures of an image that need no model, and images side by side.

A policy that has collapsed often shows it here first: all grey, all white, washed out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LUMA = (0.2126, 0.7152, 0.0722)
"""Rec. 709 weights of red, green and blue."""
GAP_GREY = 128


def luma(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3], sRGB -> [H, W] in [0, 1]; of the stored values, not of linear light."""
    return image.astype(np.float64) @ np.array(LUMA) / 255.0


def brightness(image: np.ndarray) -> float:
    """Mean luma, in [0, 1]."""
    return float(np.clip(luma(image).mean(), 0.0, 1.0))


def contrast(image: np.ndarray) -> float:
    """Standard deviation of the luma, in [0, 0.5]."""
    return float(min(luma(image).std(), 0.5))


def saturation(image: np.ndarray) -> float:
    """Mean HSV saturation, (max - min) / max over the channels and 0 for black, in [0, 1]."""
    high = image.max(axis=2).astype(np.float64)
    low = image.min(axis=2).astype(np.float64)
    return float(np.mean((high - low) / np.maximum(high, 1.0)))


def side_by_side(
    images: Sequence[np.ndarray], least_height_px: int = 128, gap_px: int = 4
) -> np.ndarray:
    """Images (uint8 [H, W, 3]) in a row, each enlarged by a whole factor to be high enough.

    No pixel is blended: what looks like a fault is one. Raises ValueError without images.
    """
    if not images:
        raise ValueError("side_by_side needs at least one image")
    factors = [max(1, -(-least_height_px // image.shape[0])) for image in images]
    large = [
        image.repeat(factor, axis=0).repeat(factor, axis=1)
        for image, factor in zip(images, factors, strict=True)
    ]
    height = max(image.shape[0] for image in large)
    width = sum(image.shape[1] for image in large) + gap_px * (len(large) - 1)
    canvas = np.full((height, width, 3), GAP_GREY, dtype=np.uint8)
    left = 0
    for image in large:
        canvas[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + gap_px
    return canvas
