"""Molmo 2, whose visual tokens name the patches that they pool by their place in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlrl.families.encoded import Features, Media
from vlrl.families.general import General
from vlrl.families.reading import Reader

if TYPE_CHECKING:
    from vlrl.families.interfaces import VisionLanguageModel


@dataclass(frozen=True)
class Molmo2(General):
    """Media: also the numbers of patches and of visual tokens of every prompt."""

    def _media(self, reader: Reader, inputs: Mapping[str, Tensor]) -> Media:
        found = dict(super()._media(reader, inputs))
        crops, patches = found["pixel_values"].shape[:2]
        found["num_patches"] = torch.tensor([crops * patches])
        found["num_pooled"] = torch.tensor([len(found["image_token_pooling"])])
        return found

    def features(self, core: VisionLanguageModel, media: Media) -> Features:
        """The features of the tokens; patches are counted on from prompt to prompt."""
        places, sizes = media["image_token_pooling"], media["num_patches"].to(torch.long)
        starts = (sizes.cumsum(0) - sizes).repeat_interleave(media["num_pooled"])
        moved = places + starts.to(places.device)[:, None]
        places = torch.where(places < 0, places, moved)
        return super().features(core, {**media, "image_token_pooling": places})
