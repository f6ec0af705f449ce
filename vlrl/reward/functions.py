"""Make a reward out of a plain function: its keyword-only arguments become its options.

    @reward_function(range=(0.0, 1.0), formula="1 if short", units="none", source="own")
    def short_answer(rollout: Rollout, *, max_chars: int = 40) -> float:
        return float(len(rollout.output) <= max_chars)

`use: short_answer` (with a registry row) or `use: my.module:short_answer` puts it on any task.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from vlrl.errors import ConfigError, RewardError, did_you_mean
from vlrl.geometry.boxes import Box
from vlrl.types import Rollout, Score, TextPart, VideoPart


@dataclass(frozen=True)
class RewardSpec:
    """What `vlrl describe` prints and what the builder needs to know of a reward."""

    kind: str
    """rollout | box | point | trl."""
    function: Callable[..., Any]
    range: tuple[float, float]
    units: str
    formula: str
    source: str
    needs: frozenset[str] = field(default_factory=frozenset)

    @property
    def options(self) -> type[BaseModel]:
        """A strict pydantic model of the function's keyword-only arguments."""
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(self.function, eval_str=True).parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name == "extent":
                continue
            required = parameter.default is parameter.empty
            if required and self.kind == "trl":
                continue  # TRL hands such an argument over as a column of the data
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            fields[parameter.name] = (annotation, ... if required else parameter.default)
        config = ConfigDict(extra="forbid", strict=False)
        return create_model(f"{self.function.__name__}_options", __config__=config, **fields)


def reward_function(
    *,
    range: tuple[float, float],
    formula: str,
    units: str = "none",
    source: str = "own",
    needs: Sequence[str] = (),
) -> Callable[[Callable[..., float | None]], Callable[..., float | None]]:
    """A reward from `f(rollout, *, options) -> float | None` (None = does not apply)."""

    def mark(function: Callable[..., float | None]) -> Callable[..., float | None]:
        function.vlrl_reward = RewardSpec(  # type: ignore[attr-defined]
            "rollout", function, range, units, formula, source, frozenset(needs)
        )
        return function

    return mark


class FunctionReward:
    """A reward made of a marked function and its validated options."""

    def __init__(self, name: str, spec: RewardSpec, options: Mapping[str, Any]) -> None:
        self.name = name
        self.spec = spec
        self.range = spec.range
        self.needs = spec.needs
        self.options = validate_options(name, spec.options, options)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score a rollout, in order; raises RewardError on a value outside the range."""
        values = self._values(rollouts)
        return [
            self._score(rollout, value) for rollout, value in zip(rollouts, values, strict=True)
        ]

    def _values(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        if self.spec.kind in ("box", "point"):
            return self._geometry_values(rollouts)
        if self.spec.kind == "trl":
            return call_trl(self.spec.function, rollouts, self.options)
        return [self.spec.function(rollout, **self.options) for rollout in rollouts]

    def _geometry_values(self, rollouts: Sequence[Rollout]) -> list[float | None]:
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
            answer = self._answer(rollout, target)
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
                    **self.options,
                )
            for row, value in zip(rows, scored, strict=True):
                values[row] = float(value)
        return values

    def _answer(self, rollout: Rollout, target: Box) -> tuple[float, ...] | None:
        """The edges or the point of an answer in the target's frame; None if it cannot score."""
        if rollout.parsed is None:
            return None
        if self.spec.kind == "point":
            points = rollout.parsed.points
            if not points:
                return None
            first = points[0].to(target.frame)
            return (first.x, first.y) if math.isfinite(first.x + first.y) else None
        box: Box | None = rollout.parsed.box
        if box is None:
            return None
        box = box.to(target.frame)
        if self.options.get("published"):
            return box.xyxy if all(math.isfinite(edge) for edge in box.xyxy) else None
        return box.xyxy if box.is_valid else None

    def _score(self, rollout: Rollout, value: float | None) -> Score:
        if value is None:
            return Score(None)
        value = float(value)
        low, high = self.range
        if math.isnan(value) or not low - 1e-9 <= value <= high + 1e-9:
            raise RewardError(
                f"reward {self.name!r} gave {value} for sample {rollout.sample.id!r}; "
                f"it declares the range [{low:g}, {high:g}]"
            )
        return Score(value, {self.name: value})


def validate_options(
    name: str, model: type[BaseModel], options: Mapping[str, Any]
) -> dict[str, Any]:
    """`options` checked against the model; an unknown key names the nearest known one."""
    for key in options:
        if key not in model.model_fields:
            raise ConfigError(
                f"{name!r} has no option {key!r}; {did_you_mean(key, model.model_fields)}"
            )
    try:
        checked = model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{name!r}, option {where!r}: {first['msg']}") from error
    return {key: getattr(checked, key) for key in model.model_fields}


def call_trl(
    function: Callable[..., Any], rollouts: Sequence[Rollout], options: Mapping[str, Any]
) -> list[float | None]:
    """Call a TRL-style reward `f(prompts, completions, **columns) -> list[float | None]`.

    TRL passes everything to everyone; here a function without `**kwargs` gets what it names.
    Raises RewardError when it names something that the data does not have.
    """
    given: dict[str, Any] = {
        key: [rollout.sample.columns.get(key) for rollout in rollouts]
        for key in sorted({key for rollout in rollouts for key in rollout.sample.columns})
    }
    given |= {
        "prompts": [as_chat(rollout) for rollout in rollouts],
        "completions": [[{"role": "assistant", "content": rollout.output}] for rollout in rollouts],
    }
    name = getattr(function, "__name__", repr(function))
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and parameter.name not in given:
            raise RewardError(
                f"{name} asks for {parameter.name!r}, which the samples do not have; "
                f"they have {sorted(given)}"
            )
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names = {parameter.name for parameter in parameters}
        given = {key: value for key, value in given.items() if key in names}
    values = function(**{**given, **options})
    if inspect.iscoroutine(values):  # TRL takes `async def` rewards too
        values = asyncio.run(values)
    if len(values) != len(rollouts):
        raise RewardError(f"{name} gave {len(values)} values for {len(rollouts)} completions")
    return [None if value is None else float(value) for value in values]


def as_chat(rollout: Rollout) -> list[dict[str, Any]]:
    """The prompt as TRL hands it to rewards: a list of messages with typed content parts."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {"type": "video" if isinstance(part, VideoPart) else "image"}
                for part in message.parts
            ],
        }
        for message in rollout.sample.prompt
    ]
