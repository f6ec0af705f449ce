"""From moving sprites to frames, and the exact box of the visible part of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIDE_PX = 112


@dataclass(frozen=True)
class Actor:
    """A sprite and its path; later actors occlude earlier ones."""

    name: str
    looks: tuple[np.ndarray, ...]
    """What it looks like in every frame: float32 RGBA in [0, 1], colours not multiplied,
    [h, w, 4]."""
    centres: np.ndarray
    """Centre in every frame, pixels, [T, 2]."""


@dataclass(frozen=True)
class Rendered:
    """Frames, and the visible part of every actor."""

    frames: np.ndarray
    """uint8 [T, H, W, 3]"""
    boxes: np.ndarray
    """Box of the visible pixels, xyxy, nan where nothing is visible, [T, A, 4]."""
    visible: np.ndarray
    """Share of the sprite's pixels that is visible, [T, A]."""


def render(background: np.ndarray, actors: Sequence[Actor], frames: Sequence[int]) -> Rendered:
    """Draw some frames of a scene; background: float32 [H, W, 3] in [0, 1]."""
    T, A = len(frames), len(actors)
    images = np.empty((T, *background.shape), dtype=np.uint8)
    boxes = np.full((T, A, 4), np.nan)
    visible = np.zeros((T, A))
    for row, frame in enumerate(frames):
        canvas = background.copy()
        owner = np.full(background.shape[:2], -1, dtype=np.int16)
        for number, actor in enumerate(actors):
            _draw(canvas, owner, actor, frame, number)
        images[row] = np.round(canvas * 255).astype(np.uint8)
        for number, actor in enumerate(actors):
            ys, xs = np.nonzero(owner == number)
            if len(ys):
                whole = int((actor.looks[frame][..., 3] > 0.5).sum())
                visible[row, number] = len(ys) / max(1, whole)
                boxes[row, number] = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    return Rendered(images, boxes, visible)


def _draw(canvas: np.ndarray, owner: np.ndarray, actor: Actor, frame: int, number: int) -> None:
    """Put one sprite on the canvas, clipped at its edges, and take over the pixels it covers."""
    sprite = actor.looks[frame]
    height, width = sprite.shape[:2]
    left = round(float(actor.centres[frame, 0]) - width / 2)
    top = round(float(actor.centres[frame, 1]) - height / 2)
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x1 >= x2 or y1 >= y2:
        return
    piece = sprite[y1 - top : y2 - top, x1 - left : x2 - left]
    alpha = piece[..., 3:]
    canvas[y1:y2, x1:x2] = canvas[y1:y2, x1:x2] * (1 - alpha) + piece[..., :3] * alpha
    owner[y1:y2, x1:x2][piece[..., 3] > 0.5] = number
