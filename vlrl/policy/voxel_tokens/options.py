"""Options of `policy: {use: voxel_tokens}`: a model whose actions are words and voxel codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vlrl.config.section import MAX_NEW_TOKENS, LoraSection, Section, Temperature
from vlrl.protocols import PolicyOptions

if TYPE_CHECKING:
    from vlrl.protocols.planned import PlannedPolicy, PlannedRun


class VoxelCodecConfig(Section):
    """Shape of the voxel VQ-VAE; the defaults are ShapeLLM-Omni's (133 million parameters).

    Tokens per object: (resolution / 2^(levels - 1))^3 / group, 1,024 by default.
    """

    resolution: int = Field(64, ge=1, le=256, description="voxels per side, 16 to 64")
    channels: tuple[PositiveInt, ...] = Field(
        (32, 128, 512), description="of each level; the grid is halved from one to the next"
    )
    latent_channels: PositiveInt = 8
    num_blocks: tuple[NonNegativeInt, ...] = Field(
        (2, 2, 2), description="residual blocks of each level, finest first"
    )
    num_middle_blocks: PositiveInt = 2
    group: PositiveInt = Field(4, description="neighbouring latent cells in one code")
    num_codes: PositiveInt = 8192

    @property
    def num_tokens(self) -> int:
        """Codes per object."""
        return self.latent_side**3 // self.group

    @property
    def latent_side(self) -> int:
        """Latent cells per side."""
        return self.resolution // 2 ** (len(self.channels) - 1)

    @property
    def code_width(self) -> int:
        """Latent numbers per code."""
        return self.latent_channels * self.group

    @model_validator(mode="after")
    def _check(self) -> VoxelCodecConfig:
        if self.resolution % 2 ** (len(self.channels) - 1):
            raise ValueError(
                f"resolution {self.resolution} cannot be halved {len(self.channels) - 1} times"
            )
        if len(self.num_blocks) != len(self.channels):
            raise ValueError(
                f"num_blocks {list(self.num_blocks)} and channels {list(self.channels)} must have "
                "the same number of levels"
            )
        if self.latent_side**3 % self.group:
            raise ValueError(
                f"group {self.group} does not divide the {self.latent_side**3} latent cells"
            )
        return self


class RefineConfig(Section):
    """The second stage: more words, then the codes again."""

    instruction: str = Field(
        "Now describe the details: colour, parts and their number. Then build it again.",
        description="a further user turn, after the first object",
    )
    max_plan_tokens: int = Field(64, ge=0, le=MAX_NEW_TOKENS)


class VoxelTokensConfig(PolicyOptions):
    """A checkpoint that writes words and voxel codes, and its VQ-VAE."""

    model: str = Field(description="a folder or a hub name, Qwen2.5-VL's classes")
    revision: str | None = None
    codec: str = Field(
        description="a folder of this project, or a file of weights in ShapeLLM-Omni's layout"
    )
    codec_shape: VoxelCodecConfig | None = Field(
        None, description="shape of a plain file of weights; None = ShapeLLM-Omni's"
    )
    attn_implementation: str = Field("sdpa", description="sdpa, flash_attention_2, eager")
    lora: LoraSection | None = None
    max_plan_tokens: int = Field(
        64,
        ge=0,
        le=MAX_NEW_TOKENS,
        description="tokens of text before the first object; 0 = only codes",
    )
    refine: RefineConfig | None = Field(None, description="the second stage; None = one object")
    constrained: bool = Field(
        True, description="only codes inside an object, exactly as many as it has; else any token"
    )
    temperature: Temperature = 1.0
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 = off")
    share_prompt: Literal["auto", "on", "off"] = "auto"
    sample_batch_size: PositiveInt = Field(64, description="rows decoded together")
    decode_batch_size: PositiveInt = Field(16, description="objects decoded together")

    @property
    def has_dropout(self) -> bool:
        """Whether two passes over the same rollouts with the same weights differ."""
        return self.lora is not None and self.lora.dropout > 0

    def models(self) -> Mapping[str, str]:
        """The checkpoint."""
        return {"model": self.model}

    @property
    def num_stages(self) -> int:
        """Objects per answer."""
        return 1 if self.refine is None else 2

    def planned(self, run: PlannedRun) -> PlannedPolicy:
        """The policy without its weights."""
        from vlrl.policy.voxel_tokens.planned import PlannedVoxelTokens

        return PlannedVoxelTokens(self, run)
