"""`vlrl describe`: what a reward, combinator, task or policy is, and which options it takes."""

from __future__ import annotations

import argparse
import functools
import inspect
import operator
import types
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vlrl.build import provided
from vlrl.config.complaints import models_in
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, VlrlError, did_you_mean
from vlrl.families.profiles import PROFILES, Profile, profile_named
from vlrl.protocols import Reward, Task
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.functions import RewardSpec, spec_of
from vlrl.reward.node import NodeMark
from vlrl.reward.novelty.kind import NoveltyKind
from vlrl.reward.shapes.shaper import Shaper

KINDS = ("reward", "combinator", "shape", "novelty", "task", "policy", "run", "profile")
WIDTH = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl describe`."""
    parser.description = (
        "Example: vlrl describe reward gaussian_point. run: the parts of a config; "
        "shape, novelty: the kinds of these nodes; "
        "profile: the coordinate profiles of model families."
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("name", nargs="?", help="a name or module:attribute; all if left out")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the description; 0, or 2 if there is no such thing."""
    try:
        if args.name is None:
            print(list_all(args.kind))
        else:
            print(describe(args.kind, args.name))
    except VlrlError as error:
        print(f"error: {error}")
        return 2
    return 0


def list_all(kind: str) -> str:
    """One line for each registered name."""
    if kind == "profile":
        return "\n".join(_profile_line(profile) for profile in PROFILES.values())
    if kind == "run":
        return "\n".join(option_lines(RunConfig, ""))
    lines = []
    for name in REGISTRY[kind]:
        target = _target(kind, name)
        lines.append(f"{name:<{WIDTH}} {first_line(target)}".rstrip())
    return "\n".join(lines)


def describe(kind: str, name: str) -> str:
    """The whole description; raises ConfigError with the nearest name."""
    if kind == "profile":
        profile = profile_named(name)
        return "\n".join([_profile_line(profile), _line("follows", profile.follows)])
    if kind == "run":
        return describe_section(name)
    target = _target(kind, name)
    if kind == "reward" and not inspect.isclass(target):
        return describe_reward(name, spec_of(target))
    lines = [name, "", inspect.getdoc(target) or "", ""]
    if issubclass(target, BaseModel):  # the options of a policy, which need no torch
        return "\n".join([*lines, "options", *option_lines(target)])
    if issubclass(target, Task):
        lines += [
            _line("provides", ""),
            *[f"  {name}: {text}" for name, text in sorted(target.provides.items())],
        ]
    elif issubclass(target, Reward):
        lines += _facts(target)
    elif issubclass(target, Shaper | NoveltyKind):
        lines += [_line("formula", target.formula), _line("source", target.source)]
    return "\n".join([*lines, "options", *option_lines(target.Options)])


def _facts(target: type[Reward]) -> list[str]:
    """What a class of rewards says of itself; ranges that depend on options are left out."""
    facts = {"formula": target.formula, "units": target.units, "source": target.source}
    own_range = vars(target).get("range")
    if isinstance(own_range, tuple):
        facts["range"] = _interval(own_range)
    if issubclass(target, Combinator):
        del facts["units"]
        if target.weighted:
            facts["weights"] = "each child may carry `weight:` (default 1.0)"
        return [_line(label, text) for label, text in facts.items() if text]
    lines = [_line(label, text) for label, text in facts.items() if text]
    return [*lines, _line("needs", ""), *_needs(target.needs)]


def describe_reward(name: str, spec: RewardSpec) -> str:
    """A function reward: its spec and its options."""
    lines = [
        name,
        "",
        inspect.getdoc(spec.function) or "",
        "",
        _line("range", _interval(spec.range)),
        _line("units", spec.units),
        _line("formula", spec.formula),
        _line("source", spec.source),
        _line("needs", "" if spec.needs else "nothing of the task"),
        *_needs(spec.needs),
        "options" if spec.options.model_fields else "options            none",
        *option_lines(spec.options),
    ]
    return "\n".join(lines)


def describe_section(name: str) -> str:
    """A part of a run's config; raises ConfigError with the nearest name."""
    fields = RunConfig.model_fields
    if name not in fields:
        raise ConfigError(f"a run has no part {name!r}; {did_you_mean(name, fields)}")
    return "\n".join(field_lines(name, fields[name], ""))


def option_lines(model: type[BaseModel], indent: str = "  ") -> list[str]:
    """The lines of every field of a model."""
    fields = model.model_fields.items()
    return [line for name, field in fields for line in field_lines(name, field, indent)]


def field_lines(name: str, field: FieldInfo, indent: str) -> list[str]:
    """`name: type = default  # meaning`, limits included; the fields of nested models below."""
    is_node = any(isinstance(one, NodeMark) for one in field.metadata)
    limits = "" if is_node else ", ".join(str(limit) for limit in field.metadata)
    value = field.get_default(call_default_factory=True)
    shown = value is not PydanticUndefined and not isinstance(value, BaseModel)
    default = f" = {value!r}" if shown else ""
    required = "  (required)" if field.is_required() else ""
    suffix = f"  [{limits}]" if limits else ""
    meaning = f"  # {' '.join(field.description.split())}" if field.description else ""
    kind = "a reward node" if is_node else type_name(field.annotation)
    lines = [f"{indent}{field.alias or name}: {kind}{default}{suffix}{required}{meaning}"]
    for nested in models_in(field.annotation):
        lines += option_lines(nested, indent + "    ")
    return lines


def type_name(annotation: Any) -> str:
    """A type as one writes it."""
    annotation = bare(annotation)
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    text = str(annotation).replace("typing.", "")
    for nested in models_in(annotation):
        text = text.replace(f"{nested.__module__}.{nested.__qualname__}", nested.__name__)
    return text


def bare(annotation: Any) -> Any:
    """A type without what `Annotated` adds to it, at any depth."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return bare(parts[0])
    if "Annotated" not in str(annotation):
        return annotation
    inner = tuple(bare(part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, inner)
    return origin[inner] if origin is not None else annotation


def first_line(target: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(target) or "").partition("\n")[0]


def _target(kind: str, name: str) -> Any:
    """What is described; of a policy its options, which need no torch."""
    return resolve("policy_options" if kind == "policy" else kind, name)


def _profile_line(profile: Profile) -> str:
    facts = f"{profile.kind} in {profile.scale}, {profile.syntax}, {profile.pick} answer"
    sizes = f"{profile.min_pixels} to {profile.max_pixels} pixels"
    if profile.width_px is not None:
        sizes = f"{profile.width_px} pixels wide"
    elif profile.factor is None:
        sizes = "images of any size"
    return _line(profile.name, f"{facts}, {sizes}")


def _line(label: str, value: Any) -> str:
    return f"{label:<{WIDTH}} {value}".rstrip()


def _interval(ends: Any) -> str:
    return f"[{ends[0]:g}, {ends[1]:g}]"


def _needs(needs: Iterable[str]) -> list[str]:
    known = provided()
    return [f"  {need}: {known.get(need, 'unknown')}" for need in sorted(needs)]
