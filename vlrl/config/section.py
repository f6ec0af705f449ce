"""What every section of a config is made of."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
)


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
        if isinstance(value, bool) and is_number(field.annotation):
            raise ValueError(f"takes a number, not {str(value).lower()}")
        return value


def is_number(annotation: object) -> bool:
    """Whether a field takes an int or a float, or None, and nothing else."""
    if get_origin(annotation) is Annotated:
        return is_number(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return all(part is NoneType or is_number(part) for part in get_args(annotation))
    return annotation in (int, float)


def check_limits(min_pixels: int | None, max_pixels: int | None) -> None:
    """ValueError where no image can lie between the two."""
    if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
        raise ValueError(f"min_pixels ({min_pixels}) is larger than max_pixels ({max_pixels})")


class LoraSection(Section):
    """A low-rank adapter; the reference policy is then the adapter switched off."""

    rank: PositiveInt = 64
    alpha: PositiveInt = 128
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | str = (
        r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    )


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
