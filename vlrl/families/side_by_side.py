"""Llama 4: its class holds a tower beside a language model with its head.

Their features replace the embeddings here, as their own `forward` does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from vlrl.families.family import VisionOutput
from vlrl.families.general import General

if TYPE_CHECKING:
    from vlrl.families.interfaces import MultimodalCore, VisionLanguageModel


class Llama4Body:
    """Llama 4 without its head; its projector runs over all that the tower gives."""

    def __init__(self, core: Any) -> None:
        self.core = core

    def get_image_features(self, pixel_values: Tensor, **more: Any) -> Mapping[str, Tensor]:
        """Features of tiles, [N, D]."""
        weight = self.core.multi_modal_projector.linear_1.weight
        pixels = pixel_values.to(weight.dtype)  # the processor gives bfloat16
        seen = self.core.get_image_features(pixel_values=pixels, **more).last_hidden_state
        flat = seen.reshape(-1, seen.shape[-1])
        return {"pooler_output": self.core.multi_modal_projector(flat)}

    def forward(
        self, input_ids: Tensor, mm_encoder_outputs: Mapping[str, VisionOutput] | None, **more: Any
    ) -> Any:
        """An output with `last_hidden_state`."""
        embeds = self.core.get_input_embeddings()(input_ids)
        if mm_encoder_outputs:
            features = mm_encoder_outputs["image"].pooler_output.to(embeds)
            is_image = (input_ids == self.core.config.image_token_id)[..., None]
            embeds = embeds.masked_scatter(is_image, features)
        return self.core.language_model.model(inputs_embeds=embeds, **more)

    __call__ = forward


@dataclass(frozen=True)
class Llama4(General):
    """Tiles; its layers attend in chunks."""

    def body(self, core: VisionLanguageModel) -> MultimodalCore:
        """What runs below the language head."""
        return cast("MultimodalCore", Llama4Body(core))
