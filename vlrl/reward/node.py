"""A combinator's options: a validated model, some of whose fields are reward nodes themselves.

`Node` marks such a field; `WeightedNode` one whose node may carry `weight`. Both may stand in a
list or a mapping. The nodes are built after the model is checked, so that every complaint names
the place in the tree.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, ValidationError, WithJsonSchema

from vlrl.config.complaints import Complaint, complaints
from vlrl.config.section import Section, check_size
from vlrl.errors import ConfigError
from vlrl.protocols import Reward

NODE_SCHEMA = {"type": "object", "x-reward-node": True}
"""How a JSON schema marks a reward node; vlrl/config/json_schema.py puts in what it may be."""
Build = Callable[[object, str], Reward]
"""(node, place in the tree) -> reward."""


@dataclass(frozen=True)
class NodeMark:
    """Marks a field that holds reward nodes."""

    weighted: bool


Node = Annotated[dict[str, Any], NodeMark(weighted=False), WithJsonSchema(NODE_SCHEMA)]
WeightedNode = Annotated[dict[str, Any], NodeMark(weighted=True), WithJsonSchema(NODE_SCHEMA)]


class NodeOptions(Section):
    """What is below a combinator's name in the config."""

    model_config = ConfigDict(populate_by_name=True)


Options = TypeVar("Options", bound=NodeOptions)


def read_options(
    model: type[Options], value: Mapping[str, Any], where: str, only: str | None = None
) -> Options:
    """The mapping below a combinator's name, checked; ConfigError that names the place.

    only: the field that takes the whole value, whose name is not in the config.
    """
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        found = complaints(model, error, value)
        raise ConfigError("\n".join(_placed(where, one, only) for one in found)) from error


def build_fields(
    options: NodeOptions, where: str, build: Build, only: str | None = None
) -> dict[str, Any]:
    """The fields by name, nodes replaced by the rewards that they describe.

    Weights of weighted nodes come as `weights`, in order. only: the field that takes the whole
    value, whose name is not in the config.
    """
    built: dict[str, Any] = {}
    for name, value in options:
        field = type(options).model_fields[name]
        mark = _mark_of(field.annotation, field.metadata)
        if mark is None:
            built[name] = value
            continue
        place = where if name == only else f"{where}.{field.alias or name}"
        if isinstance(value, list):
            places = [f"{place}[{index}]" for index in range(len(value))]
            built[name] = [_build(*pair, mark, build) for pair in zip(value, places, strict=True)]
            if mark.weighted:
                built["weights"] = [
                    weight_of(*pair) for pair in zip(value, places, strict=True)
                ]  # fmt: skip
        elif _is_mapping_of_nodes(field.annotation):
            built[name] = {
                key: _build(node, f"{place}.{key}", mark, build) for key, node in value.items()
            }
        elif value is not None:
            built[name] = _build(value, place, mark, build)
    return built


def reject_weight(node: object, where: str) -> None:
    """Raises ConfigError where a weight would be ignored."""
    if isinstance(node, Mapping) and "weight" in node:
        raise ConfigError(f"{where}: `weight` counts only under `sum` and `mean`; remove it")


def weight_of(node: Mapping[str, Any], where: str = "reward") -> float:
    """The node's weight; 1 where none is written. Raises ConfigError if it is no number."""
    weight = node.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ConfigError(f"{where}: `weight` is a finite number, not {weight!r}")
    try:
        check_size(weight)
    except ValueError as error:
        raise ConfigError(f"{where}: `weight` {error}") from error
    if not isfinite(weight):
        raise ConfigError(f"{where}: `weight` is a finite number, not {weight!r}")
    return float(weight)


def _placed(where: str, complaint: Complaint, only: str | None) -> str:
    """A complaint with its place in the tree."""
    if only is not None and complaint.place.startswith(f"{only}."):
        index = complaint.place.removeprefix(f"{only}.")
        return f"{where}[{index}]: {complaint.message}"
    if complaint.names_place or not complaint.place:
        return f"{where}: {complaint}"
    return f"{where}.{complaint}"


def _build(node: object, where: str, mark: NodeMark, build: Build) -> Reward:
    if not mark.weighted:
        reject_weight(node, where)
    return build(node, where)


def _mark_of(annotation: object, metadata: Sequence[object] = ()) -> NodeMark | None:
    """The mark on a field's type, or on what its list or mapping holds."""
    for one in metadata:
        if isinstance(one, NodeMark):
            return one
    origin = typing.get_origin(annotation)
    if origin is None or origin in (typing.Literal, types.UnionType):
        return None
    if origin is Annotated:
        return _mark_of(None, typing.get_args(annotation)[1:])
    found = (_mark_of(part) for part in typing.get_args(annotation))
    return next((mark for mark in found if mark is not None), None)


def _is_mapping_of_nodes(annotation: object) -> bool:
    """Whether a field is `dict[str, Node]`, not a node (which is a dict too)."""
    parts = typing.get_args(annotation)
    return len(parts) == 2 and typing.get_origin(parts[1]) is Annotated
