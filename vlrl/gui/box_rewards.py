"""Rewards made of functions of boxes and points, a whole batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from vlrl.errors import RewardError
from vlrl.geometry.boxes import Box
from vlrl.reward.functions import FunctionReward, RewardSpec, mark
from vlrl.types import Rollout

BoxFunction = TypeVar("BoxFunction", bound=Callable[..., np.ndarray])
ARGUMENTS = frozenset({"extent"})


class BoxReward(FunctionReward):
    """Valid predicted boxes and the true ones, all in one call; others score the low end."""

    def values(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One value per rollout; None where the sample has no box."""
        values: list[float | None] = [None] * len(rollouts)
        rows, answers, true, extent = [], [], [], []
        for row, rollout in enumerate(rollouts):
            target: Box | None = rollout.sample.target.box
            if target is None:
                continue
            if not target.is_valid:
                raise RewardError(
                    f"reward {self.name!r}: the true box {target.xyxy} of sample "
                    f"{rollout.sample.id!r} is empty, inverted or off its image; correct the data"
                )
            values[row] = self.range[0]
            answer = self.answer(rollout, target)
            if answer is not None:
                rows.append(row)
                answers.append(answer)
                true.append(target.xyxy)
                extent.append(target.frame.extent)
        if rows:
            # A number near the float limit may overflow to inf on the way; the formulas take it.
            with np.errstate(over="ignore"):
                scored = self.spec.function(
                    np.array(answers, dtype=np.float64),
                    np.array(true, dtype=np.float64),
                    extent=np.array(extent, dtype=np.float64),
                    **self.given_options,
                )
            for row, value in zip(rows, scored, strict=True):
                values[row] = float(value)
        return values

    def answer(self, rollout: Rollout, target: Box) -> tuple[float, ...] | None:
        """The edges of an answer's box in the target's frame; None if it cannot score."""
        box: Box | None = None if rollout.parsed is None else rollout.parsed.box
        if box is None:
            return None
        box = box.to(target.frame)
        if self.given_options.get("published"):
            return box.xyxy if all(math.isfinite(edge) for edge in box.xyxy) else None
        return box.xyxy if box.is_valid else None


class PointReward(BoxReward):
    """First points of answers and the true boxes, all in one call."""

    def answer(self, rollout: Rollout, target: Box) -> tuple[float, ...] | None:
        """The first point of an answer in the target's frame; None if it cannot score."""
        points = () if rollout.parsed is None else rollout.parsed.points
        if not points:
            return None
        first = points[0].to(target.frame)
        return (first.x, first.y) if math.isfinite(first.x + first.y) else None


def box_reward(
    *, range: tuple[float, float], formula: str, units: str, source: str
) -> Callable[[BoxFunction], BoxFunction]:
    """A reward from `f(predicted [N, 4], true [N, 4], *, extent [N, 2], options) -> [N]`.

    Both boxes come in the same frame, as float64 xyxy; `extent` is the size of the whole image
    in that frame. Only valid predictions (finite, ordered, not empty, on the image) reach the
    function: all others score the low end of the range. A sample without a box does not apply.
    With an option named `published` set, any finite prediction reaches it: the released code
    scores inverted, empty and far-away boxes too.
    """
    needs = frozenset({"box"})
    return lambda function: mark(
        function, RewardSpec(function, range, units, formula, source, needs, BoxReward, ARGUMENTS)
    )


def point_reward(
    *, range: tuple[float, float], formula: str, units: str, source: str
) -> Callable[[BoxFunction], BoxFunction]:
    """A reward from `f(points [N, 2], true [N, 4], *, extent [N, 2], options) -> [N]`.

    The point is the answer's first one (a box answers with its centre), in the true box's
    frame. Answers without a finite point score the low end of the range.
    """
    needs = frozenset({"box", "points"})
    return lambda function: mark(
        function, RewardSpec(function, range, units, formula, source, needs, PointReward, ARGUMENTS)
    )
