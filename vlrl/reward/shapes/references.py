"""Rewards that a shaped one is compared with: of the group, of a file, of the frozen policy."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from vlrl.data.fields import field_of, id_of, row_of, shown
from vlrl.data.json_file import read_json_rows
from vlrl.errors import DataError, RewardError
from vlrl.reward.node import NodeOptions
from vlrl.types import Rollout

By = Literal["group", "file", "policy"]


class ReferenceOptions(NodeOptions):
    """Where reference rewards come from."""

    source: By = Field(
        "group",
        alias="from",
        description="group: the other answers to the prompt; file: rewards by prompt, computed "
        "before; policy: answers of the policy that training starts from, sampled once",
    )
    file: str | None = Field(
        None, description="JSON lines with `id` and `column`; an evaluation's rows fit"
    )
    column: str = Field(
        "rewards", min_length=1, description="a number or a list of them; dots lead inside"
    )
    num: PositiveInt = Field(1, description="references of a prompt that count, of file and policy")

    @model_validator(mode="after")
    def _check(self) -> ReferenceOptions:
        if (self.file is not None) != (self.source == "file"):
            raise ValueError("`file:` goes with `from: file`, and only with it")
        if self.source != "file" and self.column != "rewards":
            raise ValueError(f"`column`: no effect with `from: {self.source}`; leave it out")
        if self.source == "group" and self.num != 1:
            raise ValueError("`num`: no effect with `from: group`, where all others count")
        return self


@functools.lru_cache(maxsize=16)
def read_references(file: str, column: str) -> Mapping[str, tuple[float, ...]]:
    """Rewards by the prompt's id; DataError that names file, row and field."""
    found: dict[str, list[float]] = defaultdict(list)
    for number, row in enumerate(read_json_rows(Path(file)), start=1):
        where = f"{file}, row {number}"
        name = id_of(field_of(row_of(row, where), "id", where), where)
        value: Any = row
        for part in column.split("."):
            value = field_of(value, part, where)
        if value is None:  # an evaluation's row, where the reward did not apply
            continue
        values = value if isinstance(value, list) else [value]
        for one in values:
            if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
                raise DataError(
                    f"{where}: field {column!r} must hold finite numbers, not {shown(one)}"
                )
        found[name] += map(float, values)
    return {name: tuple(values) for name, values in found.items()}


def of_prompt(
    known: Mapping[str, Sequence[float]], rollout: Rollout, num: int, where: str
) -> Sequence[float]:
    """The first `num` references of the rollout's prompt; RewardError where it has none."""
    values = known.get(rollout.sample.id, ())
    if not values:
        raise RewardError(f"{where}: no reference reward for sample {rollout.sample.id!r}")
    return values[:num]


def of_group(
    rollouts: Sequence[Rollout], values: Sequence[float | None]
) -> list[tuple[float, ...]]:
    """For each rollout the values of the others of its group that apply; maybe none."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, rollout in enumerate(rollouts):
        if values[i] is not None:
            groups[rollout.sample.id, rollout.group].append(i)
    found: list[tuple[float, ...]] = [()] * len(rollouts)
    for rows in groups.values():
        # By index: the order of the batch changes no bit of what is summed later.
        rows.sort(key=lambda i: rollouts[i].index)
        for i in rows:
            found[i] = tuple(v for j in rows if j != i and (v := values[j]) is not None)
    return found
