"""An image reward over all views of an object, pooled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.tree import reject_weight, score
from vlrl.types import Rollout, Score

POOLS: dict[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
}
KEYS = ("pool", "of")


@dataclass(frozen=True)
class View:
    """What an image reward sees of an object."""

    image: np.ndarray
    """uint8 [H, W, 3]"""


class Views:
    """The child's value on every view, pooled by max (the default), mean or min.

    Example: {views: {pool: max, of: {use: hps_v2}}}. The child is any reward of images, and sees
    one view as if it was the answer. `max` is as AR3D-R1 has it, and rewards one lucky side; `mean`
    and `min` do not. The order of the views changes nothing. An object without a view (an answer
    that could not be read) gets what the child gives for that.
    """

    formula = "pool over the views v of r(v); pool = max, mean or min"
    name = "views"

    def __init__(self, child: Reward, pool: str) -> None:
        if "image" not in child.needs:
            raise ConfigError(
                f"views: {getattr(child, 'name', child)!r} looks at no image, so it is the same "
                "on every view; take it out of `views`"
            )
        self.pool = pool
        self.children = (child,)
        self.label: str | None = None
        self.needs = (child.needs - {"image"}) | {"views"}
        self.range = child.range

    @classmethod
    def from_config(
        cls, value: Any, where: str, build: Callable[[Mapping[str, Any], str], Reward]
    ) -> Views:
        """From a mapping with `pool` and `of`; raises ConfigError that names the place."""
        if not isinstance(value, Mapping) or "of" not in value:
            raise ConfigError(f"{where}: takes a mapping with {', '.join(KEYS)}, not {value!r}")
        for key in value:
            if key not in KEYS:
                raise ConfigError(f"{where}: unknown key {key!r}; {did_you_mean(str(key), KEYS)}")
        pool = value.get("pool", "max")
        if pool not in POOLS:
            raise ConfigError(f"{where}.pool: {pool!r}; {did_you_mean(str(pool), POOLS)}")
        reject_weight(value["of"], f"{where}.of")
        try:
            return cls(build(value["of"], f"{where}.of"), pool)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order; whole groups go to the child, view by view."""
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
        if self.label is not None:
            parts[self.label] = value
        return Score(value, parts)


def _seen(rollouts: Sequence[Rollout], view: int) -> list[Rollout]:
    return [
        rollout
        if rollout.parsed is None
        else replace(rollout, parsed=View(rollout.parsed.views[view]))
        for rollout in rollouts
    ]
