"""Which CLIP model a reward uses."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, ValidationInfo, field_validator

from vlrl.reward.image_reward import ModelOptions


class ClipOptions(ModelOptions):
    """A CLIP model: a name on the model hub or a local path."""

    model_config = ConfigDict(validate_default=True)

    library: Literal["transformers", "open_clip"] = "transformers"
    model: str = "openai/clip-vit-large-patch14"
    """A hub name or a folder; open_clip: e.g. `ViT-L-14-quickgelu`, or `local-dir:<folder>`."""
    pretrained: str | None = None
    """open_clip with a plain model name: a tag such as `openai`, or a file of weights."""

    @field_validator("pretrained")
    @classmethod
    def _weights_are_named(cls, pretrained: str | None, info: ValidationInfo) -> str | None:
        library, model = info.data.get("library"), str(info.data.get("model"))
        if library == "transformers" and pretrained is not None:
            raise ValueError("only applies to library: open_clip; remove it")
        if library == "open_clip" and (pretrained is None) != (":" in model):
            raise ValueError(
                "open_clip needs a tag or a file of weights here, and nothing where `model` is "
                "local-dir:<folder> or hf-hub:<name>"
            )
        return pretrained
