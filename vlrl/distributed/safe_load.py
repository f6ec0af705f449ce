"""DeepSpeed's checkpoint files, read without running any code that is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

OWN_CLASSES: list[Any] = [LossScaler, ZeroStageEnum, fragment_address]
"""What DeepSpeed's files hold besides tensors and plain values."""


class SafeCheckpointEngine(TorchCheckpointEngine):
    """Loads with `weights_only`; DeepSpeed's own engine would unpickle anything."""

    def load(self, path: str, map_location: Any = None) -> Mapping[str, Any]:
        """One file's state; raises pickle.UnpicklingError where it holds any other class."""
        with torch.serialization.safe_globals(OWN_CLASSES):
            state: Mapping[str, Any] = torch.load(
                path, map_location=map_location, weights_only=True
            )
        return state
