"""`vlrl.json` next to a checkpoint, as evaluation reads it; vlrl/train/recipe.py writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from vlrl.config.resolve import check
from vlrl.data.fields import shown
from vlrl.data.json_file import read_json
from vlrl.errors import ConfigError, DataError
from vlrl.train.recipe import FILE


class Recipe(BaseModel):
    """What evaluation must know of a grounding checkpoint; None = not said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str | None = None
    prompt: str | None = None
    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    max_new_tokens: PositiveInt | None = None
    precision: Literal["fp32", "bf16"] | None = None
    video: dict[str, str | float | int | None] | None = None
    """How a video model's frames are sampled and its answers written: options of its task."""


def read_recipe(model: str) -> Recipe:
    """The recipe of a checkpoint's folder; an empty one for hub names and other folders."""
    path = Path(model) / FILE
    if not path.is_file():
        return Recipe()
    try:
        data = read_json(path)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping, not {shown(data)}")
    try:
        return check(Recipe, data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
