"""`vlrl.json` beside a checkpoint: how its model is asked and how its answers are read.

Training writes it with the exported weights, evaluation takes its defaults from it, so that a
model is evaluated the way it was trained without repeating five options.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError

FILE = "vlrl.json"


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


VIDEO_OPTIONS = (
    "answer",
    "index",
    "start_at",
    "edges",
    "coordinates",
    "fps",
    "max_frames",
    "longer_side_px",
    "duplicates",
)
"""Options of `video_grounding` that belong to the model, not to the data."""


def recipe_of(config: RunConfig) -> Recipe | None:
    """The recipe of a run's model; None where its task has no coordinate profile."""
    if "profile" not in config.task:
        return None
    return Recipe(
        profile=config.task["profile"],
        prompt=config.task.get("prompt"),
        min_pixels=config.policy.get("min_pixels"),
        max_pixels=config.policy.get("max_pixels"),
        max_new_tokens=config.policy.get("max_new_tokens"),
        precision=config.dist.precision,
        video=_video_options(config),
    )


def _video_options(config: RunConfig) -> dict[str, Any] | None:
    given = {name: config.task[name] for name in VIDEO_OPTIONS if name in config.task}
    return given if "answer" in given else None


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write `vlrl.json` into a checkpoint's folder."""
    (folder / FILE).write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_recipe(model: str) -> Recipe:
    """The recipe of a checkpoint's folder; an empty one for hub names and other folders."""
    path = Path(model) / FILE
    if not path.is_file():
        return Recipe()
    try:
        return Recipe.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
