"""From composed YAML to a checked RunConfig, and back to plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vlrl.config.complaints import complaints
from vlrl.config.loader import compose
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError

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
        found = complaints(model, error, data)
        raise ConfigError("\n".join(map(str, found))) from error


def plain(config: BaseModel) -> dict[str, Any]:
    """A config as JSON-like data: what is printed, saved and run again."""
    return config.model_dump(mode="json")
