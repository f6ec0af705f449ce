"""Views of an object side by side, and a full turn as an animation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vlrl.mesh.camera import Camera, around
from vlrl.mesh.mesh import ColouredMesh
from vlrl.mesh.render import render


def contact_sheet(views: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [N, H, W, 3] -> one image, row by row, the last row padded with white."""
    N, H, W, _ = views.shape
    rows = -(-N // columns)
    page = np.full((rows * H, columns * W, 3), 255, np.uint8)
    for number, view in enumerate(views):
        row, column = divmod(number, columns)
        page[row * H : (row + 1) * H, column * W : (column + 1) * W] = view
    return page


def turntable(mesh: ColouredMesh, size_px: int, num_frames: int = 36) -> list[Image.Image]:
    """Frames of one turn around a mesh, anti-aliased."""
    cameras: list[Camera] = around(num_frames)
    return [Image.fromarray(view) for view in render(mesh, cameras, size_px, supersample=2)]


def save_animation(frames: list[Image.Image], path: Path, frame_ms: int = 80) -> None:
    """Write an animated image, .webp or .gif by the file's ending."""
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=frame_ms, loop=0)
