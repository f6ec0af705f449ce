"""Rewards made of functions of boxes and points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vlrl.reward.functions import RewardSpec

BoxFunction = Callable[..., np.ndarray]


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

    def mark(function: BoxFunction) -> BoxFunction:
        function.vlrl_reward = RewardSpec(  # type: ignore[attr-defined]
            "box", function, range, units, formula, source, frozenset({"box"})
        )
        return function

    return mark


def point_reward(
    *, range: tuple[float, float], formula: str, units: str, source: str
) -> Callable[[BoxFunction], BoxFunction]:
    """A reward from `f(points [N, 2], true [N, 4], *, extent [N, 2], options) -> [N]`.

    The point is the answer's first one (a box answers with its centre), in the true box's
    frame. Answers without a finite point score the low end of the range.
    """

    def mark(function: BoxFunction) -> BoxFunction:
        function.vlrl_reward = RewardSpec(  # type: ignore[attr-defined]
            "point", function, range, units, formula, source, frozenset({"box", "points"})
        )
        return function

    return mark
