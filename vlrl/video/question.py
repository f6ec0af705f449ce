"""How video grounding asks, unless a config says otherwise."""

from __future__ import annotations

STVG_QUESTION = (
    "The video is shown as {num_frames} frames, numbered {first} to {last}. Find: {sentence}\n"
    "First say in which frames it is true, then draw a box around the target in each of these "
    "frames, then look again and give the final boxes:\n"
    "<time> start - end </time> <think_bbox> start. [x1, y1, x2, y2], ... </think_bbox> "
    "<pred_bbox> start. [x1, y1, x2, y2], ... </pred_bbox>"
)
"""Our own wording: STVG-o1's training prompt is not published."""
