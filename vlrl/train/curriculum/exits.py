"""When a stage ends: after some steps, at a value of a metric, or where it no longer rises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from vlrl.config.curriculum import ExitConfig, MetricExit, PlateauExit


class ExitState(BaseModel):
    """What the rules of a stage remember."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    num_steps: NonNegativeInt = 0
    """In the stage."""
    metric: list[float] = []
    """The last values that count, oldest first."""
    plateau: list[float] = []
    """Likewise."""
    best: float | None = None
    """Of the plateau's means; None before the first."""
    num_without_gain: NonNegativeInt = 0
    """Steps since then."""


class Exit:
    """The rules of one stage. A step in which a metric does not apply does not count for it."""

    def __init__(self, options: ExitConfig | None, state: ExitState | None = None) -> None:
        self.options = options
        self.state = state or ExitState()

    def see(self, metrics: Mapping[str, float]) -> None:
        """Take in a finished step."""
        state, options = self.state, self.options
        state.num_steps += 1
        if options is None:
            return
        if (rule := options.metric) is not None:
            _append(state.metric, metrics.get(rule.name), rule.over)
        if (plateau := options.plateau) is not None:
            if not _append(state.plateau, metrics.get(plateau.metric), plateau.over):
                return
            value = math.fsum(state.plateau) / len(state.plateau)
            gain = math.inf if state.best is None else value - state.best
            gain *= -1 if plateau.lower_is_better and state.best is not None else 1
            if gain > plateau.min_gain:
                state.best, state.num_without_gain = value, 0
            else:
                state.num_without_gain += 1

    def reason(self) -> str | None:
        """Why the stage ends now; None where it goes on."""
        options, state = self.options, self.state
        if options is None:
            return None
        if options.steps is not None and state.num_steps >= options.steps:
            return f"{state.num_steps} steps"
        if options.metric is not None and _is_reached(options.metric, state.metric):
            return f"{options.metric.name} {_mean(state.metric):.4g}"
        if (plateau := options.plateau) is not None and _is_flat(plateau, state):
            return f"{plateau.metric} no better than {state.best:.4g} for {plateau.patience} steps"
        return None


def _append(window: list[float], value: float | None, size: int) -> bool:
    """Add a value if it is one; whether the window is full and has changed."""
    if value is None or not math.isfinite(value):
        return False
    window.append(value)
    del window[:-size]
    return len(window) == size


def _mean(window: Sequence[float]) -> float:
    return math.fsum(window) / len(window)


def _is_reached(rule: MetricExit, window: Sequence[float]) -> bool:
    if len(window) < rule.over:
        return False
    value = _mean(window)
    if rule.at_least is not None:
        return value >= rule.at_least
    return rule.at_most is not None and value <= rule.at_most


def _is_flat(rule: PlateauExit, state: ExitState) -> bool:
    return state.num_without_gain >= rule.patience
