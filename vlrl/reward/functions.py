"""Make a reward out of a plain function: its keyword-only arguments become its options.

    @reward_function(range=(0.0, 1.0), formula="1 if short", units="none", source="own")
    def short_answer(rollout: Rollout, *, max_chars: int = 40) -> float:
        return float(len(rollout.output) <= max_chars)

`use: short_answer` (with a registry row) or `use: my.module:short_answer` puts it on any task.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, create_model

from vlrl.config.complaints import complaints
from vlrl.config.section import Section
from vlrl.errors import ConfigError, did_you_mean
from vlrl.protocols import Reward
from vlrl.types import Rollout, Score


class FunctionReward(Reward):
    """A reward made of a function and its validated options."""

    def __init__(self, name: str, spec: RewardSpec, options: Mapping[str, Any]) -> None:
        self.name = name
        self.spec = spec
        self.range = spec.range
        self.needs = spec.needs
        self.given_options = validate_options(name, spec.options, options)

    def values(self, rollouts: Sequence[Rollout]) -> Sequence[float | None]:
        """One value per rollout, in order; None = does not apply."""
        return [self.spec.function(rollout, **self.given_options) for rollout in rollouts]

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        return [
            Score(None) if value is None else Score(float(value), {self.name: float(value)})
            for value in self.values(rollouts)
        ]

    def same_as(self, other: Reward) -> bool:
        """The same function with the same options."""
        return (
            isinstance(other, FunctionReward)
            and self.spec == other.spec
            and self.given_options == other.given_options
        )


@dataclass(frozen=True)
class RewardSpec:
    """What `vlrl describe` prints and what the builder needs to know of a function."""

    function: Callable[..., Any]
    range: tuple[float, float]
    units: str
    formula: str
    source: str
    needs: frozenset[str] = field(default_factory=frozenset)
    reward_class: type[FunctionReward] = FunctionReward
    """How the function is called: once per rollout, or in a form that a domain gives."""
    arguments: frozenset[str] = frozenset()
    """Keyword arguments that the class passes itself, so they are not options."""
    takes_columns: bool = False
    """Arguments without a default are columns of the data, as TRL has it."""

    @cached_property
    def options(self) -> type[BaseModel]:
        """A strict pydantic model of the function's keyword-only arguments."""
        fields: dict[str, Any] = {}
        for parameter in inspect.signature(self.function, eval_str=True).parameters.values():
            if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name in self.arguments:
                continue
            required = parameter.default is parameter.empty
            if required and self.takes_columns:
                continue
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            fields[parameter.name] = (annotation, ... if required else parameter.default)
        return create_model(f"{self.function.__name__}_options", __base__=Section, **fields)


Function = TypeVar("Function", bound=Callable[..., Any])


def mark(function: Function, spec: RewardSpec) -> Function:
    """The function, known as a reward from now on."""
    function.__dict__["vlrl_reward"] = spec
    return function


def reward_function(
    *,
    range: tuple[float, float],
    formula: str,
    units: str = "none",
    source: str = "own",
    needs: Sequence[str] = (),
) -> Callable[[Function], Function]:
    """A reward from `f(rollout, *, options) -> float | None` (None = does not apply)."""
    return lambda function: mark(
        function, RewardSpec(function, range, units, formula, source, frozenset(needs))
    )


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
        first = complaints(model, error, options)[0]
        says_where = first.names_place or not first.place
        place = "" if says_where else f", option {first.place!r}"
        raise ConfigError(f"{name!r}{place}: {first.message}") from error
    return dict(checked)


def spec_of(function: object) -> RewardSpec:
    """The spec of a marked function; a plain function gets a default one.

    A function with a `completions` argument is a TRL-style reward, any other one gets a rollout.
    """
    if not callable(function):
        raise ConfigError(f"{function!r} is not a reward: neither a function nor a class")
    spec = vars(function).get("vlrl_reward") if inspect.isfunction(function) else None
    if isinstance(spec, RewardSpec):
        return spec
    anything = (float("-inf"), float("inf"))
    plain = RewardSpec(function, anything, "unstated", "unstated", "the user's own")
    if "completions" not in inspect.signature(function).parameters:
        return plain
    from vlrl.reward.trl import TrlStyleReward

    return replace(plain, reward_class=TrlStyleReward, takes_columns=True)
