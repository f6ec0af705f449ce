"""Image statistics that need no model.

A collapsed policy often shows here first: all grey, all white, washed out.
"""

from __future__ import annotations

import numpy as np

LUMA = (0.2126, 0.7152, 0.0722)
"""Rec. 709 weights of red, green and blue."""


def luma(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3], sRGB -> [H, W] in [0, 1]; from the stored values, not from linear light."""
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
