"""Rewards of answers with several boxes: what is matched, weighted, and what is too much."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from vlrl.errors import RewardError
from vlrl.geometry.box_sets import matched
from vlrl.geometry.boxes import Box
from vlrl.reward.functions import reward_function
from vlrl.types import Rollout

NEEDS = ("boxes",)


@reward_function(
    range=(0.0, 1.0),
    formula="sum of IoU over one-to-one matched boxes / max(number predicted, number true)",
    units="any, all boxes in one frame",
    source="own; the matching is the Hungarian one, as in DETR (arXiv 2005.12872)",
    needs=NEEDS,
)
def set_iou(rollout: Rollout) -> float | None:
    """Boxes too many and too few both cost; invalid boxes match nothing but count."""
    true = _true(rollout)
    if true is None:
        return None
    if rollout.parsed is None:
        return 0.0
    given = rollout.parsed.boxes
    if not true and not given:
        return 1.0
    pairs = matched(*_arrays(given, true))
    return min(math.fsum(overlap for _, _, overlap in pairs) / max(len(given), len(true)), 1.0)


@reward_function(
    range=(-1.0, 1.0),
    formula="sum_j w_j IoU_j / sum_j w_j - extra (predictions without a match / predictions)",
    units="any, all boxes in one frame",
    source="GRiP's salience-weighted IoU; its exact formula is not public, this one is ours",
    needs=NEEDS,
)
def salience_iou(
    rollout: Rollout, *, extra: Annotated[float, Field(ge=0, le=1)] = 0.5
) -> float | None:
    """Overlap with one-to-one matched objects by their weight; `extra` is what too many cost.

    Without weights in the data all objects count the same. An unreadable answer gets -extra.
    """
    true = _true(rollout)
    if true is None:
        return None
    if rollout.parsed is None:
        return -extra
    given = rollout.parsed.boxes
    weights = rollout.sample.target.salience or (1.0,) * len(true)
    total = math.fsum(weights)
    if true and not total > 0:
        raise RewardError(
            f"salience_iou: the weights of sample {rollout.sample.id!r} are all 0, so no object "
            "counts; correct `salience` in the data"
        )
    shares = [weight / total for weight in weights] if true else []
    pairs = matched(*_arrays(given, true), shares)
    gained = math.fsum(shares[j] * overlap for _, j, overlap in pairs)
    lost = (len(given) - len(pairs)) / len(given) if given else 0.0
    return min(gained, 1.0) - extra * lost


def _true(rollout: Rollout) -> tuple[Box, ...] | None:
    """The true boxes; None where the sample has none to compare with."""
    boxes: tuple[Box, ...] | None = rollout.sample.target.boxes
    for box in boxes or ():
        if not box.is_valid:
            raise RewardError(
                f"the true box {box.xyxy} of sample {rollout.sample.id!r} is empty, inverted or "
                "off its image; correct the data"
            )
    return boxes


def _arrays(given: tuple[Box, ...], true: tuple[Box, ...]) -> tuple[np.ndarray, np.ndarray]:
    """xyxy in the frame of the true boxes; of predictions the valid ones only."""
    frame = true[0].frame if true else None
    here = [box if frame is None else box.to(frame) for box in given]
    valid = [box.xyxy for box in here if box.is_valid]
    return (
        np.array(valid, dtype=np.float64).reshape(-1, 4),
        np.array([box.xyxy for box in true], dtype=np.float64).reshape(-1, 4),
    )
