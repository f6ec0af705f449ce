"""A reward cut to an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrl.errors import ConfigError, did_you_mean
from vlrl.protocols import Reward
from vlrl.reward.parts import join_parts
from vlrl.reward.tree import reject_weight, score
from vlrl.types import Rollout, Score

KEYS = ("of", "low", "high")


class Clip:
    """`of`, but never below `low` or above `high`.

    Example: {clip: {of: {sum: [...]}, low: 0.0, high: 1.0}}; one end may be left out.
    """

    formula = "min(max(r, low), high)"
    name = "clip"

    def __init__(self, of: Reward, low: float = -math.inf, high: float = math.inf) -> None:
        if not low < high:
            raise ConfigError(f"clip: low {low:g} is not below high {high:g}")
        self.of, self.low, self.high = of, low, high
        self.children = (of,)
        self.label: str | None = None
        self.needs = of.needs
        self.range = (self._cut(of.range[0]), self._cut(of.range[1]))

    @classmethod
    def from_config(
        cls, value: Any, where: str, build: Callable[[Mapping[str, Any], str], Reward]
    ) -> Clip:
        """From a mapping with `of` and `low`, `high` or both; raises ConfigError."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: takes a mapping with {', '.join(KEYS)}, not {value!r}")
        for key in value:
            if key not in KEYS:
                raise ConfigError(f"{where}: unknown key {key!r}; {did_you_mean(str(key), KEYS)}")
        if "of" not in value or len(value) == 1:
            raise ConfigError(f"{where}: `of:` and at least one of `low:`, `high:` are needed")
        for key in ("low", "high"):
            end = value.get(key, 0.0)
            if isinstance(end, bool) or not isinstance(end, int | float) or math.isnan(end):
                raise ConfigError(f"{where}.{key}: takes a number, not {end!r}")
        reject_weight(value["of"], f"{where}.of")
        of = build(value["of"], f"{where}.of")
        try:
            return cls(of, value.get("low", -math.inf), value.get("high", math.inf))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order."""
        return [self._join(one) for one in score(self.of, rollouts)]

    def _join(self, one: Score) -> Score:
        value = None if one.value is None else self._cut(one.value)
        parts = join_parts([(self.of, one)])
        if self.label is not None and value is not None:
            parts[self.label] = value
        return Score(value, parts)

    def _cut(self, value: float) -> float:
        return min(max(value, self.low), self.high)
