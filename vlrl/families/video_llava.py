"""Video-LLaVA, whose model counts features by two axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from vlrl.families.encoded import Features
from vlrl.families.family import VisionOutput
from vlrl.families.general import General

if TYPE_CHECKING:
    from vlrl.families.interfaces import VisionLanguageModel


@dataclass(frozen=True)
class VideoLlava(General):
    """A tower of its own for images and for videos."""

    def outputs(
        self, core: VisionLanguageModel, input_ids: Tensor, features: Features
    ) -> dict[str, VisionOutput]:
        """Features in the order of their tokens, as those of one large image."""
        found = super().outputs(core, input_ids, features)
        for output in found.values():
            output.pooler_output = output.pooler_output[None]
        return found
