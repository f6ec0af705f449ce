"""What every section of a config is made of."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

MAX_WHOLE = 2**32 - 1
"""Largest whole number of an option: numpy's seeds end here, and seeds derived from one stay in 64
bits."""
SIZES = (1e-30, 1e30)
"""Least and largest size of a number other than 0; it is computed with in 32 bits."""


def _is_no_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("must be a number, or an infinity where there is no limit, not nan")
    return value


OpenEnd = Annotated[float, AllowInfNan(True), AfterValidator(_is_no_nan)]
"""An end of an interval, infinite where it is open; other numbers of a config are finite."""


class Section(BaseModel):
    """A part of the config: an unknown key is an error, and nothing changes after the check."""

    # An infinity in a reward's options is saved as what it is, not as null.
    model_config = ConfigDict(
        use_attribute_docstrings=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """`true` would otherwise count as the number 1."""
        field = cls.model_fields[str(info.field_name)]
        if holds_numbers(field.annotation):
            for place, one in _entries(value):
                if isinstance(one, bool):
                    raise ValueError(f"{place}must be a number, not {str(one).lower()}")
        return value

    def differs(self, name: str) -> bool:
        """Whether a field has another value than its default."""
        return bool(dict(self)[name] != type(self).model_fields[name].default)

    @field_validator("*", mode="before")
    @classmethod
    def _keys_are_texts(cls, value: object) -> object:
        """A key like 0 would be another one in the config that is saved and read again."""
        return with_text_keys(value)

    @field_validator("*", mode="after")
    @classmethod
    def _numbers_of_usable_size(cls, value: object, info: ValidationInfo) -> object:
        """Beyond these sizes libraries fail, or compute with 0 and infinity."""
        # Numbers inside anything else, a reward node say, are checked by what reads them.
        found = [("", one) for one in (value if isinstance(value, list | tuple) else (value,))]
        if holds_numbers(cls.model_fields[str(info.field_name)].annotation):
            found = list(_entries(value))
        for place, number in found:
            if isinstance(number, int | float):
                try:
                    check_size(number)
                except ValueError as error:
                    raise ValueError(f"{place}{error}") from error
        return value


def with_text_keys(value: object) -> object:
    """A value whose mappings, at any depth, have texts for keys, as JSON and YAML write them."""
    if isinstance(value, Mapping):
        return {
            (str(key).lower() if isinstance(key, bool) else str(key)): with_text_keys(one)
            for key, one in value.items()
        }
    return [with_text_keys(one) for one in value] if isinstance(value, list) else value


def check_size(number: float) -> None:
    """ValueError for numbers that nothing can be computed with in 32 bits."""
    if isinstance(number, int) and abs(number) > MAX_WHOLE:
        raise ValueError(f"must be at most {MAX_WHOLE} in size")
    if number and math.isfinite(number) and not SIZES[0] <= abs(number) <= SIZES[1]:
        raise ValueError(f"must be 0 or from {SIZES[0]:g} to {SIZES[1]:g} in size, not {number:g}")


def holds_numbers(annotation: object) -> bool:
    """Whether a field takes numbers, by themselves or in lists and mappings, and nothing else."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return holds_numbers(parts[0])
    if origin is dict:
        return holds_numbers(parts[1])
    if origin in (Union, UnionType, list, tuple):
        found = [one for one in parts if one not in (NoneType, Ellipsis)]
        return bool(found) and all(map(holds_numbers, found))
    return annotation in (int, float)


def _entries(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    """What lists and mappings hold, at any depth, each with its keys; or the value."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _entries(one, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _entries(one, place)
    else:
        yield f"{place}: " if place else "", value


def check_limits(min_pixels: int | None, max_pixels: int | None) -> None:
    """ValueError where no image can lie between the two."""
    if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
        raise ValueError(f"min_pixels ({min_pixels}) is larger than max_pixels ({max_pixels})")


MAX_RANK = 65_536
"""Of a LoRA adapter; no layer is as wide."""
MAX_SIDE_PX = 16_384
"""Of generated images."""
MAX_NEW_TOKENS = 1_000_000
"""Of an answer; random numbers and masks are made for each."""
Temperature = Annotated[float, Field(ge=0.001, le=1000)]
"""Of sampling; beyond these it is greedy or uniform, and logits overflow."""


class LoraSection(Section):
    """A low-rank adapter; the reference policy is then the adapter switched off."""

    rank: int = Field(64, ge=1, le=MAX_RANK)
    alpha: PositiveInt = 128
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | str | None = Field(
        None,
        description="a list of ends of names, or a regular expression for whole names; None = "
        "every linear layer of the language model but its head and its experts' routers",
    )

    @field_validator("target_modules")
    @classmethod
    def _names_something(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        if value is None:
            return None
        if not value or not all(value):
            raise ValueError("must name the layers that get an adapter")
        if isinstance(value, str):
            try:
                re.compile(value)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"must be a regular expression, not {value!r}: {error}") from error
        return value


class AddressSection(Section):
    """Where a server listens."""

    host: str = Field("127.0.0.1", description="127.0.0.1: this machine only")
    port: int = Field(0, ge=0, le=65_535, description="0 takes a free one")
    token_env: str | None = Field(None, description="environment variable that holds the token")
    hosts: tuple[str, ...] = Field(
        (),
        description="names that clients call it by; without a token only this machine's own "
        "(localhost, 127.0.0.1) and these are answered, with one any",
    )
