"""Weights that are not finite are never exported."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vlrl.distributed.comm import World, all_gather
from vlrl.errors import NonFiniteError


def check_finite(weights: Mapping[str, Tensor], world: World) -> None:
    """Raise NonFiniteError on all ranks where a rank's weights hold nan or inf."""
    broken = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    named = [name for part in all_gather(broken[:3], world) for name in part]
    if named:
        raise NonFiniteError(
            f"the weights hold nan or inf ({', '.join(named)}), so no model is exported; lower "
            "optim.lr, and resume from a checkpoint before it happened"
        )
