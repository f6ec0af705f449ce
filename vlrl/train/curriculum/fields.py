"""What a stage can know of a sample, and which samples it keeps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from vlrl.config.curriculum import Between, Kept, StageConfig
from vlrl.data.fields import as_written, shown
from vlrl.errors import ConfigError, did_you_mean
from vlrl.protocols import Task
from vlrl.types import Sample

Fields = Mapping[str, object]
MAX_NAMED = 8
"""Values of a field in a message."""


def fields_of(task: Task, sample: Sample) -> Fields:
    """The data's columns, the groups that reports know, `target_area` and `id`; columns win."""
    area = task.difficulty(sample)
    own = {} if math.isnan(area) else {"target_area": area}
    return {"id": sample.id, **own, **task.strata(sample), **sample.columns}


def kept(stage: StageConfig, place: str, fields: Sequence[Fields], split: str) -> list[int]:
    """Places of the samples that a stage keeps, in the order of the data.

    A sample without a field is not kept by a condition on it. ConfigError for a field that no
    sample has, for numbers compared with what is none, and where nothing is kept.
    """
    for name in stage.keep:
        check_field(name, f"{place}.keep", fields)
    places = range(len(fields))
    for name, values in stage.keep.items():
        places_now = [i for i in places if name in fields[i]]
        places = [i for i in places_now if _fits(fields[i], name, values, f"{place}.keep.{name}")]  # type: ignore[assignment]
    if not places:
        counts = "; ".join(f"{name}: {_counted(name, fields)}" for name in stage.keep)
        raise ConfigError(
            f"{place}.keep: must keep a sample; of the {len(fields)} in {split!r} none has all of "
            f"this ({counts})"
        )
    return list(places)


def check_field(name: str, place: str, fields: Sequence[Fields]) -> None:
    """Raise ConfigError for a field that no sample has."""
    if not any(name in one for one in fields):
        known = sorted({key for one in fields for key in one})
        raise ConfigError(
            f"{place}: no sample has a field {name!r}; {did_you_mean(name, known)} "
            f"(the fields are {', '.join(known)})"
        )


def number_of(fields: Fields, name: str, place: str) -> float:
    """A field as a number; numbers written as text count. ConfigError with the sample's id."""
    value = fields[name]
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise ConfigError(
        f"{place}: must be compared with numbers, and sample {fields['id']!r} has {shown(value)}; "
        "name values instead"
    )


def _fits(fields: Fields, name: str, values: Kept, place: str) -> bool:
    if isinstance(values, Between):
        number = number_of(fields, name, place)
        above = values.at_least is None or number >= values.at_least
        return above and (values.at_most is None or number <= values.at_most)
    found = fields[name]
    wanted = {as_written(value) for value in values}
    of = found if isinstance(found, list | tuple) else (found,)
    return any(as_written(one) in wanted for one in of)


def _counted(name: str, fields: Sequence[Fields]) -> str:
    counts = Counter(shown(one[name]) for one in fields if name in one)
    named = [f"{value} {number}" for value, number in counts.most_common(MAX_NAMED)]
    rest = len(counts) - len(named)
    return ", ".join([*named, f"{rest} others"] if rest else named)
