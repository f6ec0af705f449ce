"""From composed YAML to a checked RunConfig, and back to plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from vlrl.config.loader import compose
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


def load_run_config(
    files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    reward_file: str | Path | None = None,
) -> RunConfig:
    """Compose, check and return a run's config; every complaint is a ConfigError."""
    reward = None if reward_file is None else compose([reward_file])
    if reward is not None and set(reward) != {"reward"}:
        raise ConfigError(f"{reward_file}: a reward file holds the one key `reward:`")
    return check(RunConfig, compose(files, overrides, reward))


def check(model: type[Model], data: Mapping[str, Any]) -> Model:
    """`data` as `model`; an unknown key is answered with the nearest known one."""
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(explain(model, error)) from error


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """All complaints of a validation, one line each: where, what, and the nearest name."""
    lines = []
    for problem in error.errors():
        # <tags> name the member of a union that was tried, not a place in the file.
        where = ".".join(part for part in map(str, problem["loc"]) if not part.startswith("<"))
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, problem["loc"][:-1])
            hint = did_you_mean(str(problem["loc"][-1]), known)
            lines.append(f"unknown key {where!r}; {hint}")
        elif problem["type"] == "missing":
            lines.append(f"`{where}:` is missing")
        elif problem["type"] == "literal_error":
            known = _literals(problem["ctx"]["expected"])
            lines.append(
                f"{where}: {problem['input']!r}; {did_you_mean(str(problem['input']), known)}"
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message}" if where else message)
    return "\n".join(lines)


def _fields_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a key of a mapping, a place in a list, a tag: inside it is the same model
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


def plain(config: BaseModel) -> dict[str, Any]:
    """A config as JSON-like data: what is printed, saved and run again."""
    return config.model_dump(mode="json")
