"""The options that `vlrl eval` has on every benchmark, in sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vlrl.config.section import Section
from vlrl.eval.recipe import Recipe, read_recipe


class Asked(Section):
    """What is evaluated."""

    benchmark: str = Field(description="name of a benchmark")
    data: Path | None = Field(None, description="folder or file of annotations")
    format: str | None = Field(
        None, description="reader of other files than the published ones, e.g. rows, hub"
    )
    limit: NonNegativeInt = Field(0, description="items, spread evenly; 0 = all")
    out: Path | None = Field(None, description="folder for the results; default: runs/eval/...")
    quiet: bool = Field(False, description="plain lines, no bars")


class Answers(Section):
    """Who answers (one of --model, --predictions)."""

    model: str | None = Field(None, description="checkpoint folder or hub name")
    predictions: Path | None = Field(None, description="file of answers made elsewhere")
    precision: Literal["bf16", "fp32"] | None = Field(None, description="default: bf16 on a GPU")
    attn: str = Field("sdpa", description="sdpa, flash_attention_2 or eager")
    batch_size: PositiveInt = 32
    max_new_tokens: PositiveInt | None = None
    answer_field: str = Field("output", description="of --predictions")
    id_field: str = Field("id", description="of --predictions")
    allow_missing: bool = Field(False, description="items without an answer count as failed")

    @model_validator(mode="after")
    def _check_answers(self) -> Self:
        if (self.model is None) == (self.predictions is None):
            raise ValueError("give one of --model and --predictions")
        return self

    @property
    def label(self) -> str:
        """The folder of the results: the last two parts of what answers."""
        name = self.model or str(Path(self.predictions or "").with_suffix(""))
        return "-".join(Path(name).parts[-2:]).replace("/", "-")

    @property
    def recipe(self) -> Recipe:
        """The model's vlrl.json; empty without one."""
        return Recipe() if self.model is None else read_recipe(self.model)


class Asking(Section):
    """How it is asked and read (default: the model's vlrl.json)."""

    profile: str | None = Field(None, description="coordinate profile of the model's family")
    prompt: str | None = Field(None, description="the question, with {instruction} or {sentence}")


class EvalOptions(Asked, Answers, Asking):
    """Of every benchmark."""

    def folder(self, benchmark: str) -> Path:
        """Where the results go."""
        return self.out or Path("runs/eval") / f"{benchmark}-{self.label}"


Options = TypeVar("Options", bound=EvalOptions)


def completed(options: Options, recipe: Recipe, max_new_tokens: int) -> Options:
    """The options, with the model's vlrl.json in place of those that are not given."""
    usual: dict[str, Any] = dict(recipe)
    usual["max_new_tokens"] = recipe.max_new_tokens or max_new_tokens
    lacking = {name for name, value in options if value is None}
    return options.model_copy(update={k: v for k, v in usual.items() if k in lacking})
