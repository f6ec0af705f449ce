"""Granite's vision models, whose features enter the language model at several layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlrl.families.encoded import Features, Media
from vlrl.families.family import VisionOutput
from vlrl.families.general import General

if TYPE_CHECKING:
    from vlrl.families.interfaces import VisionLanguageModel


@dataclass(frozen=True)
class GraniteDocling(General):
    """Its model reads the answer of a router of tiles, which nothing here trains."""

    def outputs(
        self, core: VisionLanguageModel, input_ids: Tensor, features: Features
    ) -> dict[str, VisionOutput]:
        """Features in the order of their tokens, without the router's answer."""
        found = super().outputs(core, input_ids, features)
        for output in found.values():
            output.router_logits = None
        return found


@dataclass(frozen=True)
class Granite4Vision(General):
    """The embeddings of visual tokens are 0, and every level is added before a layer of its own."""

    def features(self, core: VisionLanguageModel, media: Media) -> Features:
        """All levels, in the order of the layers that the config maps them to."""
        output = core.model.get_image_features(
            media["pixel_values"], media["image_sizes"], return_dict=True
        )
        levels = [torch.cat(list(level)) for _, level in output["deepstack_features"]]
        return Features(torch.stack(levels))

    def outputs(
        self, core: VisionLanguageModel, input_ids: Tensor, features: Features
    ) -> dict[str, VisionOutput]:
        """Features in the order of their tokens, each level with its layer."""
        config = core.config
        layers = [layer for _, layer in config.deepstack_layer_map]
        pairs = zip([*layers, *config.spatial_target_layers], features.levels, strict=True)
        return {"image": VisionOutput(deepstack_features=list(pairs))}
