"""The size that Qwen-family processors give an image before they cut it into patches."""

from __future__ import annotations

import math

MAX_ASPECT = 200


def smart_resize(
    height: int,
    width: int,
    factor: int = 28,
    min_pixels: int = 3_136,
    max_pixels: int = 12_845_056,
) -> tuple[int, int]:
    """Resized (height, width) in pixels, both multiples of `factor`, area within the limits.

    The order is height first, in and out. Ties round to even (70 / 28 = 2.5 -> 56 pixels), as
    Python does. Source: Qwen2-VL's processor in transformers 5, which does the resizing here;
    qwen_vl_utils differs for sides below factor / 2, which it lifts to `factor` first.
    Raises ValueError for an empty image and for an aspect ratio above 200.
    """
    if height <= 0 or width <= 0:
        raise ValueError(f"an image has a positive size, not {width} x {height}")
    if max(height, width) / min(height, width) > MAX_ASPECT:
        raise ValueError(f"the aspect ratio of {width} x {height} is above {MAX_ASPECT}")
    new_height = round(height / factor) * factor
    new_width = round(width / factor) * factor
    if new_height * new_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif new_height * new_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        new_height = math.ceil(height * grow / factor) * factor
        new_width = math.ceil(width * grow / factor) * factor
    return new_height, new_width


def shrunk(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """(height, width) of at most about this area with the same shape, in whole pixels.

    Source: InfiGUI-G1's evaluation (`resize_image` in eval/data.py), which does so before its
    model's own resizing.
    """
    if height * width <= max_pixels:
        return height, width
    scale = math.sqrt(max_pixels / (height * width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def why_unfit(height: int, width: int, factor: int | None = None) -> str | None:
    """Why a model cannot be shown an image of this size; None where it can.

    factor: pixels of a patch with its neighbours; sides that round to none of them have sizes of
    their own in every library.
    """
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"the aspect ratio of {width} x {height} px is above {MAX_ASPECT}"
    if factor is not None and round(min(height, width) / factor) < 1:
        least = factor // 2 + 1
        return f"the shorter side of {width} x {height} px is below {least} px (half a patch)"
    return None


def video_size(
    height: int, width: int, factor: int = 28, longer_side_px: int | None = None
) -> tuple[int, int]:
    """Resized (height, width) of a video's frames in pixels, both multiples of `factor`.

    Shrunk until the longer side is at most `longer_side_px` (STVG-o1: 336), with the aspect ratio
    preserved; then each side goes to the nearest multiple within that limit. A frame has at least
    four units of factor x factor, as in qwen_vl_utils. Raises ValueError as smart_resize does.
    """
    longest = max(height, width)
    if longer_side_px is not None and longer_side_px < factor:
        raise ValueError(f"a longer side of {longer_side_px} px is below one patch of {factor} px")
    scale = 1.0 if longer_side_px is None else min(1.0, longer_side_px / longest)
    most = math.inf if longer_side_px is None else longer_side_px // factor * factor
    # The processors' own rule, so that what they refuse is refused here.
    smart_resize(height, width, factor, 1, 1 << 62)
    sides = (max(factor, round(side * scale / factor) * factor) for side in (height, width))
    new_height, new_width = (int(min(side, most)) for side in sides)
    return smart_resize(new_height, new_width, factor, 4 * factor**2, 1 << 62)
