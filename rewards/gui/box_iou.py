"""Overlap of the predicted and the true box (GUI-G1's R_iou, without its weight)."""

from __future__ import annotations

import numpy as np

from vlrl.geometry.boxes import iou
from vlrl.gui.box_rewards import box_reward


@box_reward(
    range=(0.0, 1.0),
    formula="area of the intersection / area of the union",
    units="any, both boxes in one frame",
    source="GUI-G1 (arXiv 2505.15810), R_IoU; its code is one pixel off: see `published`",
)
def box_iou(
    predicted: np.ndarray, true: np.ndarray, *, extent: np.ndarray, published: bool = False
) -> np.ndarray:
    """IoU with continuous edges, [N, 4] x [N, 4] -> [N]; `published` as the released code."""
    sound = iou(predicted, true)
    if not published:
        return sound
    value = released_iou(predicted, true)
    return np.where((value >= 0) & (value <= 1), value, sound)


def released_iou(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """GUI-G1's released IoU, [N, 4] x [N, 4] -> [N].

    Whole pixels in the intersection only, overlaps of up to one pixel count as none, areas
    signed: 0 for identical boxes of one pixel and in the unit frame.
    """
    low = np.maximum(predicted[:, :2], true[:, :2])
    high = np.minimum(predicted[:, 2:], true[:, 2:]) - 1.0
    overlap = np.where((low < high).all(axis=1), (high - low + 1.0).prod(axis=1), 0.0)
    signed = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (predicted, true)]
    union = signed[0] + signed[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union != 0)
