"""Options of `policy: {use: image_tokens}`: a model whose actions are the tokens of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from vlrl.config.section import LoraSection, Temperature
from vlrl.protocols import PolicyOptions

if TYPE_CHECKING:
    from vlrl.protocols.planned import PlannedPolicy, PlannedRun


class ImageTokensConfig(PolicyOptions):
    """A Janus checkpoint as a policy."""

    model: str = Field(description="a folder or a hub name, in transformers' own layout")
    revision: str | None = None
    attn_implementation: str = Field("sdpa", description="sdpa, flash_attention_2, eager")
    lora: LoraSection | None = None
    temperature: Temperature = 1.0
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 = off")
    guidance_scale: float = Field(
        5.0, ge=1, description="classifier-free guidance, in sampling and training; 1 = off"
    )
    sample_batch_size: PositiveInt = Field(
        32, description="images sampled together; guidance takes two rows per image"
    )
    decode_batch_size: PositiveInt = Field(8, description="images decoded together")

    def models(self) -> Mapping[str, str]:
        """The checkpoint."""
        return {"model": self.model}

    def planned(self, run: PlannedRun) -> PlannedPolicy:
        """The policy without its weights."""
        from vlrl.policy.image_tokens.planned import PlannedImageTokens

        return PlannedImageTokens(self, run)

    @property
    def has_dropout(self) -> bool:
        """Whether two passes over the same rollouts with the same weights differ."""
        return self.lora is not None and self.lora.dropout > 0
