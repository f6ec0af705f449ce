"""Stages of a run: which samples, in which order, learnt with what, and until when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from vlrl.config.section import Section

Scalar = str | bool | int | float


class Between(Section):
    """Numbers of a field, ends included."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Between:
        if self.at_least is None and self.at_most is None:
            raise ValueError("must have at_least, at_most or both")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(f"at_least ({self.at_least:g}) is above at_most ({self.at_most:g})")
        return self


def _kind(value: object) -> str:
    return "<values>" if isinstance(value, list | tuple) else "<between>"


Kept = Annotated[
    Annotated[Between, Tag("<between>")] | Annotated[tuple[Scalar, ...], Tag("<values>")],
    Discriminator(_kind),
]
"""Values that a stage keeps of a field."""


class SamplerConfig(Section):
    """The order in which a stage draws its samples."""

    kind: Literal["shuffled", "in_order", "by_field", "adaptive"] = Field(
        "shuffled",
        description="in_order: of the data; by_field: rising by a field, equal values shuffled; "
        "adaptive: those of middling success more often",
    )
    field: str | None = Field(None, description="of by_field")
    order: tuple[Scalar, ...] = Field(
        (), description="of by_field: its values, easiest first; none = they are numbers"
    )
    descending: bool = Field(False, description="of by_field: the largest number is the easiest")
    success: str = Field(
        "reward",
        min_length=1,
        description="of adaptive: what counts as success, 0 to 1: `reward`, scaled by its range, "
        "or a metric of the task, e.g. right",
    )
    floor: float = Field(0.1, ge=0, le=1, description="of adaptive: share of draws made uniformly")
    rate: float = Field(
        0.5, gt=0, le=1, description="of adaptive: weight of the newest group in a running mean"
    )

    @model_validator(mode="after")
    def _check(self) -> SamplerConfig:
        fields = type(self).model_fields
        for kind, names in OWN_OPTIONS.items():
            for name in names:
                if kind != self.kind and dict(self)[name] != fields[name].default:
                    raise ValueError(f"{name}: no effect under kind: {self.kind}; leave it out")
        if self.kind == "by_field" and self.field is None:
            raise ValueError("kind: by_field needs `field:`, the field to sort by")
        if self.order and self.descending:
            raise ValueError("descending: no effect beside `order`; leave it out")
        return self


OWN_OPTIONS: Mapping[str, Sequence[str]] = {
    "by_field": ("field", "order", "descending"),
    "adaptive": ("success", "floor", "rate"),
}


class MetricExit(Section):
    """A metric that has come far enough."""

    name: str = Field(min_length=1, description="as in metrics.jsonl, e.g. reward/mean")
    at_least: float | None = None
    at_most: float | None = None
    over: PositiveInt = Field(1, description="steps whose mean counts")

    @model_validator(mode="after")
    def _check(self) -> MetricExit:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("must have either at_least or at_most")
        return self


class PlateauExit(Section):
    """A metric that no longer improves."""

    metric: str = Field(min_length=1, description="as in metrics.jsonl, e.g. reward/mean")
    patience: PositiveInt = Field(description="steps without a gain")
    min_gain: NonNegativeFloat = Field(0.0, description="smaller ones are none")
    over: PositiveInt = Field(1, description="steps whose mean counts")
    lower_is_better: bool = False


class ExitConfig(Section):
    """When a stage ends; of several rules the first that holds."""

    steps: PositiveInt | None = None
    metric: MetricExit | None = None
    plateau: PlateauExit | None = None

    @model_validator(mode="after")
    def _check(self) -> ExitConfig:
        if self.steps is None and self.metric is None and self.plateau is None:
            raise ValueError("must have steps, metric or plateau")
        return self

    @property
    def min_steps(self) -> int:
        """The fewest steps after which it can hold."""
        fewest = [] if self.steps is None else [self.steps]
        if self.metric is not None:
            fewest.append(self.metric.over)
        if self.plateau is not None:
            fewest.append(self.plateau.over + self.plateau.patience)
        return min(fewest)

    @property
    def metrics(self) -> Iterator[tuple[str, str]]:
        """Metrics that it looks at, each after its key."""
        if self.metric is not None:
            yield "metric.name", self.metric.name
        if self.plateau is not None:
            yield "plateau.metric", self.plateau.metric


class StageConfig(Section):
    """A stage of the curriculum; what it does not say is as in the rest of the config."""

    name: str = Field(min_length=1)
    keep: dict[str, Kept] = Field(
        {}, description="field of the data -> its values, one or several, or at_least and at_most"
    )
    sampler: SamplerConfig = SamplerConfig()
    reward: dict[str, Any] | None = Field(None, description="instead of the run's")
    algo: dict[str, Any] = Field({}, description="keys of the run's algo that differ")
    exit: ExitConfig | None = Field(None, description="None for the last stage, which runs on")

    @field_validator("keep", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, keep: object) -> object:
        if not isinstance(keep, Mapping):
            return keep
        for field, value in keep.items():
            if not isinstance(value, str | bool | int | float | list | tuple | Mapping | Section):
                raise ValueError(
                    f"{field}: must be a value, a list of them, or at_least and at_most; it is "
                    f"{value!r}"
                )
        return {
            field: [value] if isinstance(value, str | bool | int | float) else value
            for field, value in keep.items()
        }

    @field_validator("keep")
    @classmethod
    def _names_values(cls, keep: dict[str, Kept]) -> dict[str, Kept]:
        for field, values in keep.items():
            if values == ():
                raise ValueError(f"{field}: must name a value")
        return keep

    @field_validator("sampler", mode="before")
    @classmethod
    def _kind_alone(cls, sampler: object) -> object:
        return {"kind": sampler} if isinstance(sampler, str) else sampler


def check_stages(stages: Sequence[StageConfig], num_steps: int, canaries: Sequence[str]) -> None:
    """ValueError, with the place, for stages that cannot follow each other."""
    names: set[str] = set()
    fewest = 0
    for number, stage in enumerate(stages):
        place, is_last = f"curriculum.{number}", number + 1 == len(stages)
        if stage.name in names:
            raise ValueError(f"{place}.name: {stage.name!r} is the name of an earlier stage")
        names.add(stage.name)
        if is_last and stage.exit is not None:
            raise ValueError(f"{place}.exit: the last stage runs to the end; leave it out")
        if is_last:
            break
        if stage.exit is None:
            raise ValueError(
                f"{place}.exit: must say when stage {stage.name!r} ends: steps, metric or plateau"
            )
        _check_metrics(f"{place}.exit", stage.exit, canaries)
        fewest += stage.exit.min_steps
        if fewest >= num_steps:
            following = stages[number + 1].name
            raise ValueError(
                f"{place}.exit: the stages up to here take {fewest} steps at least, and the run "
                f"has num_steps: {num_steps}, so stage {following!r} would never begin"
            )


def _check_metrics(place: str, exit: ExitConfig, canaries: Sequence[str]) -> None:
    """Names that no run has; the rest is known after its first step."""
    for key, name in exit.metrics:
        group, sign, _ = name.partition("/")
        if not sign:
            raise ValueError(
                f"{place}.{key}: must be a metric as in metrics.jsonl, e.g. reward/mean or "
                f"rollout/right, not {name!r}"
            )
        of = name.removeprefix("canary/")
        if group == "canary" and not any(of == one or of.startswith(f"{one}_") for one in canaries):
            raise ValueError(f"{place}.{key}: {name!r} is of no name under health.canaries")
