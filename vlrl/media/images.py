"""Images as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GAP_GREY = 128


def side_by_side(
    images: Sequence[np.ndarray], least_height_px: int = 128, gap_px: int = 4
) -> np.ndarray:
    """Images (uint8 [H, W, 3]) in a row, each enlarged by a whole factor to a height of
    at least `least_height_px`.

    No pixel is blended, so that visible defects are the images' own. Raises ValueError without
    images.
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
