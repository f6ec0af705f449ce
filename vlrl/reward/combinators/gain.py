"""What a stage of an answer adds to the stage before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from vlrl.errors import ConfigError, RewardError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score

Form = Literal["difference", "share"]


class GainOptions(NodeOptions):
    """A reward of one stage, and how two of its values become a gain."""

    of: Node
    form: Form = Field(
        "difference", description="share: of what was missing, or, of a loss, of what was there"
    )


class Gain(Combinator):
    """`of` on a stage less `of` on the one before it; a first stage is compared with nothing.

    Example: {stages: {coarse: {use: boundary}, refined: {gain: {of: {use: boundary}}}}}. Under
    `stages` it is about that stage, elsewhere about the last one of the answer. Nothing counts
    as the low end of the range, or 0 where that is infinite. Alone it pays for a bad first stage:
    reward that too.
    """

    Options = GainOptions
    formula = "r_t - r_(t-1); share: divided by high - r_(t-1), of a loss by r_(t-1) - low"
    source = "BS-IRIS (arXiv 2303.10692), relative cross-entropy gain; the share is ours"
    name = "gain"

    def __init__(self, of: Reward, form: Form = "difference") -> None:
        low, high = of.range
        if form == "share" and not (math.isfinite(low) and math.isfinite(high)):
            raise ConfigError(
                f"form: share needs a reward of finite range, {of.name!r} has [{low:g}, {high:g}]; "
                "put it under `clip` or `shape`, or use form: difference"
            )
        super().__init__((of,))
        self.of, self.form = of, form
        self.needs = self.needs | {"stages"}
        self.start = low if math.isfinite(low) else 0.0
        self.range = (-1.0, 1.0) if form == "share" else (low - high, high - low)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        steps = [_last_two(rollout) for rollout in rollouts]
        now = score(self.of, [after for _, after in steps])
        # A first stage stands in for the one before it, so that `of` sees whole groups.
        before = score(self.of, [after if first is None else first for first, after in steps])
        return [
            self._join(a, None if first is None else b)
            for (first, _), a, b in zip(steps, now, before, strict=True)
        ]

    def _join(self, now: Score, before: Score | None) -> Score:
        parts = join_parts([(self.of, now)])
        earlier = self.start if before is None else before.value
        if now.value is None or earlier is None:
            return self.joined(None, parts)
        gain = self._gain(now.value, earlier)
        return Score(gain, {**parts, self.label or f"{self.of.name}_gain": gain})

    def _gain(self, now: float, before: float) -> float:
        gain = now - before
        if self.form == "difference" or gain == 0:
            return gain
        low, high = self.of.range
        whole = high - before if gain > 0 else before - low
        return min(max(gain / whole, -1.0), 1.0) if whole > 0 else math.copysign(1.0, gain)


def _last_two(rollout: Rollout) -> tuple[Rollout | None, Rollout]:
    """The rollout as the stage before and as the stage itself; None: there is none before it."""
    if rollout.earlier is not None:
        if rollout.parsed is None or not rollout.earlier:
            return None, rollout
        return replace(rollout, parsed=rollout.earlier[-1], earlier=rollout.earlier[:-1]), rollout
    if rollout.parsed is None:
        return None, rollout
    stages = tuple(rollout.parsed.stages)
    if not stages:
        raise RewardError(f"gain: the answer of sample {rollout.sample.id!r} has no stages")
    last = replace(rollout, parsed=stages[-1], earlier=stages[:-1])
    return _last_two(last)[0], last
