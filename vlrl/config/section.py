"""What every section of a config is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt


class Section(BaseModel):
    """A part of the config: an unknown key is an error, and nothing changes after the check."""

    # An infinity in a reward's options is saved as what it is, not as null.
    model_config = ConfigDict(
        use_attribute_docstrings=True, extra="forbid", frozen=True, ser_json_inf_nan="constants"
    )


def check_limits(min_pixels: int | None, max_pixels: int | None) -> None:
    """ValueError where no image can lie between the two."""
    if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
        raise ValueError(f"min_pixels ({min_pixels}) is larger than max_pixels ({max_pixels})")


class LoraSection(Section):
    """A low-rank adapter; the reference policy is then the adapter switched off."""

    rank: PositiveInt = 64
    alpha: PositiveInt = 128
    dropout: NonNegativeFloat = 0.0
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
