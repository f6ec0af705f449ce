"""What pydantic found wrong with a config: one complaint a value, at its place, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vlrl.data.fields import as_written, shown
from vlrl.errors import did_you_mean

KINDS = {
    "a number": ("float_type", "float_parsing"),
    "a whole number": ("int_type", "int_parsing", "int_from_float"),
    "a text": ("string_type",),
    "true or false": ("bool_type", "bool_parsing"),
    "a list": ("list_type", "tuple_type", "set_type", "frozen_set_type"),
    "a mapping": ("dict_type", "mapping_type", "model_type", "model_attributes_type"),
    "null": ("none_required",),
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
"""pydantic's name of an error -> what the value should have been."""
LIMITS = {
    "finite_number": "a finite number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "int_parsing_size": "smaller in size",
}
SIZES = {
    "too_short": "{min_length} or more entries",
    "too_long": "{max_length} or fewer entries",
    "string_too_short": "{min_length} or more characters",
    "string_too_long": "{max_length} or fewer characters",
}


@dataclass(frozen=True)
class Complaint:
    """What is wrong with one value, or with one key."""

    place: str
    """Dotted, as it is written in the config; empty for all of it."""
    message: str
    names_place: bool = False
    """The message itself says where."""

    def __str__(self) -> str:
        if self.names_place or not self.place:
            return self.message
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class _Found:
    """An error of pydantic's with its place in the data."""

    details: ErrorDetails
    place: tuple[str, ...]
    tried: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Of values that may be of several types: their places, and the types that were tried."""

    def is_other_type(self, depth: int) -> bool:
        """The value at this depth of `tried` is not of the type that it was tried as."""
        here = len(self.tried) == depth + 1 and self.place == self.tried[depth][0]
        return here and (self.details["type"] in KIND_OF or self.details["type"] == "literal_error")


def complaints(
    model: type[BaseModel], error: ValidationError, data: Mapping[str, Any]
) -> list[Complaint]:
    """All of them, in order; data: what was checked against the model."""
    found = [_located(model, details, data) for details in error.errors(include_url=False)]
    return list(dict.fromkeys(_told_all(model, found, 0)))


def _located(model: type[BaseModel], details: ErrorDetails, data: object) -> _Found:
    """The place without the names of types, which pydantic puts between keys and indices."""
    place: list[str] = []
    tried: list[tuple[tuple[str, ...], str]] = []
    value, steps = data, details["loc"]
    for number, step in enumerate(steps):
        is_missing = number == len(steps) - 1 and details["type"] == "missing"
        if (inside := _inside(value, step)) is not None:
            (value,) = inside
        elif not is_missing and step not in _fields_at(model, place):
            tried.append((tuple(place), str(step)))
            continue
        else:
            value = None  # it is not in the data, or stands there in a shorter form
        place.append(str(step))
    return _Found(details, tuple(place), tuple(tried))


def _inside(value: object, step: int | str) -> tuple[object] | None:
    """What stands under a key or an index; None where there is no such place."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        return next(((one,) for key, one in value.items() if as_written(key) == str(step)), None)
    if isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
        return (value[step],)
    return None


def _told_all(model: type[BaseModel], found: Sequence[_Found], depth: int) -> Iterator[Complaint]:
    done: set[tuple[str, ...]] = set()
    for one in found:
        if len(one.tried) <= depth:
            yield _told(model, one)
        elif (union := one.tried[depth][0]) not in done:
            done.add(union)
            same = [other for other in found if _union_at(other, depth) == union]
            yield from _of_union(model, same, depth)


def _union_at(one: _Found, depth: int) -> tuple[str, ...] | None:
    return one.tried[depth][0] if len(one.tried) > depth else None


def _of_union(model: type[BaseModel], found: Sequence[_Found], depth: int) -> Iterator[Complaint]:
    """Of a value that may be of several types: what is wrong with it as the type that it has."""
    others = [one for one in found if one.is_other_type(depth)]
    refused = {one.tried[depth][1] for one in others}
    if meant := [one for one in found if one.tried[depth][1] not in refused]:
        yield from _told_all(model, meant, depth + 1)
        return
    kinds = {_one_of(one.details) or KIND_OF[one.details["type"]]: None for one in others}
    if "a number" in kinds:
        kinds.pop("a whole number", None)
    *most, last = kinds
    words = f"{', '.join(most)} or {last}" if most else last
    value = shown(others[0].details["input"])
    yield Complaint(".".join(others[0].place), f"must be {words}, not {value}")


def _told(model: type[BaseModel], found: _Found) -> Complaint:
    details, place = found.details, ".".join(found.place)
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        hint = did_you_mean(found.place[-1], _fields_at(model, found.place[:-1]))
        return Complaint(place, f"unknown key {place!r}; {hint}", names_place=True)
    if kind == "missing" and isinstance(details["loc"][-1], int):
        return Complaint(".".join(found.place[:-1]), f"entry {found.place[-1]} is missing")
    if kind == "missing":
        return Complaint(place, f"`{place}:` is missing", names_place=True)
    if kind == "literal_error":
        hint = did_you_mean(str(value), _literals(details["ctx"]["expected"]))
        return Complaint(place, f"{value!r}; {hint}")
    return Complaint(place, in_words(details))


def in_words(details: ErrorDetails) -> str:
    """What a value must be, and what it is."""
    kind, context = details["type"], dict(details.get("ctx", {}))
    for name, limit in context.items():
        if isinstance(limit, float) and limit.is_integer():
            context[name] = int(limit)
    if kind in KIND_OF or kind in LIMITS:
        wanted = KIND_OF.get(kind) or LIMITS[kind].format_map(context)
        if kind == "string_pattern_mismatch":  # an address may hold a password
            return f"must be {wanted}"
        return f"must be {wanted}, not {shown(details['input'])}"
    if kind in SIZES:
        return f"must have {SIZES[kind].format_map(context)}, not {len(details['input'])}"
    return details["msg"].removeprefix("Value error, ")


def _one_of(details: ErrorDetails) -> str:
    """The values that are allowed, where an error lists them."""
    return str(details["ctx"]["expected"]) if details["type"] == "literal_error" else ""


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None:
            continue  # a key of a mapping or a place in a list: inside it is the same model
        inner = models_in(field.annotation)
        if not inner:
            return []
        model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _literals(expected: str) -> list[str]:
    """The values out of pydantic's list: 'a', 'b' or 'c'."""
    return re.findall(r"'([^']*)'", expected) or [expected]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type is made of, at any depth, each once."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, BaseModel) else []
    found = [model for part in get_args(annotation) for model in models_in(part)]
    return list(dict.fromkeys(found))
