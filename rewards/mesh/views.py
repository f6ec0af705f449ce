"""An image reward over all views of an object, pooled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

POOLS: dict[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
}


@dataclass(frozen=True)
class View:
    """What an image reward sees of an object."""

    image: np.ndarray
    """uint8 [H, W, 3]"""


class ViewsOptions(NodeOptions):
    """A reward of images, and how its values on the views become one."""

    pool: Literal["max", "min", "mean"] = "max"
    of: Node


class Views(Combinator):
    """The child's value on every view, pooled by max (the default), mean or min.

    Example: {views: {pool: max, of: {use: hps_v2}}}. The child is any reward of images and sees one
    view as if it were the answer. `max` is as AR3D-R1 has it, and rewards one lucky side; `mean`
    and `min` do not. The order of the views changes nothing. An object without a view (an answer
    that could not be read) gets what the child gives for that.
    """

    Options = ViewsOptions
    formula = "pool over the views v of r(v); pool = max, mean or min"
    name = "views"

    def __init__(self, of: Reward, pool: Literal["max", "min", "mean"] = "max") -> None:
        if "image" not in of.needs:
            raise ConfigError(
                f"views: {of.name!r} does not look at images, so it is the same on every view; "
                "take it out of `views`"
            )
        super().__init__((of,))
        self.pool = self.pooled = pool
        self.needs = (of.needs - {"image"}) | {"views"}
        self.range = of.range

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; whole groups go to the child, view by view."""
        counts = {len(rollout.parsed.views) for rollout in rollouts if rollout.parsed is not None}
        if len(counts) > 1:
            raise RewardError(f"views: the objects have {sorted(counts)} views; one number for all")
        num_views = counts.pop() if counts else 1
        columns = [score(self.children[0], _seen(rollouts, v)) for v in range(num_views)]
        return [self._pooled(row) for row in zip(*columns, strict=True)]

    def _pooled(self, row: tuple[Score, ...]) -> Score:
        values = [one.value for one in row if one.value is not None]
        if not values:
            return Score(None)
        value = POOLS[self.pool](values)
        names = dict.fromkeys(name for one in row for name in one.parts)
        parts = {
            name: POOLS[self.pool]([one.parts[name] for one in row if name in one.parts])
            for name in names
        }
        return self.joined(value, parts)


def _seen(rollouts: Sequence[Rollout], view: int) -> list[Rollout]:
    return [
        rollout
        if rollout.parsed is None
        else replace(rollout, parsed=View(rollout.parsed.views[view]))
        for rollout in rollouts
    ]
