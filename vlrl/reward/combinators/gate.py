"""A reward that counts only where a condition holds (G-RA's outcome gate)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrl.errors import ConfigError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.parts import join_parts, unique_names
from vlrl.reward.tree import reject_weight, score
from vlrl.types import Rollout, Score

KEYS = ("if", "at_least", "then", "else")


class Gate:
    """`then` where the condition reaches `at_least` (default 1.0), else a number (0.0).

    Example: {gate: {if: {use: box_valid}, at_least: 1.0, then: {use: box_iou}, else: 0.0}}.
    The condition's own value is not added. Where it does not apply, the gate does not either.
    Source: G-RA's outcome gate; a condition exactly at the threshold opens.
    """

    formula = "then if condition >= at_least, else the number `else`"
    name = "gate"

    def __init__(
        self, condition: Reward, then: Reward, otherwise: float = 0.0, at_least: float = 1.0
    ) -> None:
        low, high = condition.range
        if not low <= at_least <= high:
            raise ConfigError(
                f"gate: at_least {at_least:g} is outside the condition's range "
                f"[{low:g}, {high:g}], so the gate would never move"
            )
        self.condition, self.then = condition, then
        self.otherwise, self.at_least = otherwise, at_least
        self.children = (condition, then)
        self.label: str | None = None
        self.needs = condition.needs | then.needs
        self.range = (min(then.range[0], otherwise), max(then.range[1], otherwise))
        unique_names(self)

    @classmethod
    def from_config(
        cls, value: Any, where: str, build: Callable[[Mapping[str, Any], str], Reward]
    ) -> Gate:
        """From a mapping with `if`, `then` and maybe `else`, `at_least`; raises ConfigError."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: takes a mapping with {', '.join(KEYS)}, not {value!r}")
        for key in value:
            if key not in KEYS:
                # YAML 1.1 reads no key of ours as a boolean; a stray one is a typing slip.
                raise ConfigError(f"{where}: unknown key {key!r}; {did_you_mean(str(key), KEYS)}")
        for key in ("if", "then"):
            if key not in value:
                raise ConfigError(f"{where}: `{key}:` is missing")
            reject_weight(value[key], f"{where}.{key}")
        otherwise = number(value.get("else", 0.0), f"{where}.else")
        at_least = number(value.get("at_least", 1.0), f"{where}.at_least")
        condition = build(value["if"], f"{where}.if")
        then = build(value["then"], f"{where}.then")
        try:
            return cls(condition, then, otherwise, at_least)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order; both children see all rollouts, for the logs."""
        conditions = score(self.condition, rollouts)
        scores = score(self.then, rollouts)
        return [self._join(*row) for row in zip(conditions, scores, strict=True)]

    def _join(self, condition: Score, then: Score) -> Score:
        parts = join_parts([(self.condition, condition), (self.then, then)])
        if condition.value is None:
            value = None
        else:
            value = then.value if condition.value >= self.at_least else self.otherwise
        if self.label is not None and value is not None:
            parts[self.label] = value
        return Score(value, parts)


def number(value: Any, where: str) -> float:
    """A finite number of the config; raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: takes a finite number, not {value!r}")
    return float(value)
