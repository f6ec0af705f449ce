"""A reward that counts only where a condition holds (G-RA's outcome gate)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.node import Node, NodeOptions
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import score
from vlrl.types import Rollout, Score


class GateOptions(NodeOptions):
    """A condition, and what counts where it holds and where it does not."""

    condition: Node = Field(alias="if")
    then: Node
    otherwise: float = Field(0.0, alias="else", description="the value where it does not hold")
    at_least: float = Field(1.0, description="the condition's value that opens the gate")


class Gate(Combinator):
    """`then` where the condition reaches `at_least` (default 1.0), else a number (0.0).

    Example: {gate: {if: {use: box_valid}, at_least: 1.0, then: {use: box_iou}, else: 0.0}}.
    The condition's own value is not added. Where it does not apply, the gate does not either.
    Source: G-RA's outcome gate; a condition exactly at the threshold opens.
    """

    Options = GateOptions
    formula = "then if condition >= at_least, else the number `else`"
    name = "gate"

    def __init__(
        self, condition: Reward, then: Reward, otherwise: float = 0.0, at_least: float = 1.0
    ) -> None:
        low, high = condition.range
        if not low <= at_least <= high:
            raise ConfigError(
                f"gate: at_least {at_least:g} is outside the condition's range "
                f"[{low:g}, {high:g}], so the gate would always give the same"
            )
        super().__init__((condition, then))
        self.condition, self.then = condition, then
        self.otherwise, self.at_least = otherwise, at_least
        self.range = (min(then.range[0], otherwise), max(then.range[1], otherwise))

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order; both children see all rollouts, for the logs."""
        conditions = score(self.condition, rollouts)
        scores = score(self.then, rollouts)
        return [self._join(*row) for row in zip(conditions, scores, strict=True)]

    def _join(self, condition: Score, then: Score) -> Score:
        parts = join_parts([(self.condition, condition), (self.then, then)])
        if condition.value is None:
            value = None
        else:
            value = then.value if condition.value >= self.at_least else self.otherwise
        return self.joined(value, parts)
