"""DeepSpeed's checkpoint files: read without running any code in them, written now or later."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from vlrl.distributed.waiting import busy

OWN_CLASSES: list[Any] = [LossScaler, ZeroStageEnum, fragment_address]
"""What DeepSpeed's files hold besides tensors and plain values."""

Files = dict[Path, Callable[[], None]]
"""What is still to be written: each file, and what writes it."""


class SafeCheckpointEngine(TorchCheckpointEngine):
    """Loads with `weights_only`; DeepSpeed's own engine would unpickle anything."""

    def __init__(self) -> None:
        super().__init__()
        self._later: Files | None = None

    def load(self, path: str, map_location: Any = None) -> Mapping[str, Any]:
        """One file's state; raises pickle.UnpicklingError where it holds any other class."""
        with torch.serialization.safe_globals(OWN_CLASSES):
            state: Mapping[str, Any] = torch.load(
                path, map_location=map_location, weights_only=True
            )
        return state

    def save(self, state_dict: Any, path: str) -> None:
        """Write a file, or within `later` keep a copy of what it will hold."""
        write = partial(super().save, path=path)
        if self._later is None:
            with busy():  # for minutes, on a slow disk
                write(state_dict)
        else:
            self._later[Path(path)] = partial(write, copied(state_dict))

    @contextmanager
    def later(self) -> Iterator[Files]:
        """Inside, files are not written but copied to the host's memory: these are they."""
        files: Files = {}
        self._later = files
        try:
            yield files
        finally:
            self._later = None


def copied(state: Any, _seen: dict[tuple[Any, ...], torch.Tensor] | None = None) -> Any:
    """A copy that later steps do not change, on the CPU; tied tensors stay one."""
    seen = {} if _seen is None else _seen
    if isinstance(state, torch.Tensor):
        flat = state.detach()
        key = (flat.data_ptr(), flat.shape, flat.stride(), flat.dtype, flat.device)
        if not flat.numel() or key not in seen:
            seen[key] = flat.to("cpu", copy=True)
        return seen[key]
    if isinstance(state, dict):
        made = copy.copy(state)  # an OrderedDict stays one
        made.update({key: copied(value, seen) for key, value in state.items()})
        return made
    if isinstance(state, list):
        return [copied(value, seen) for value in state]
    if type(state) is tuple:
        return tuple(copied(value, seen) for value in state)
    return copy.deepcopy(state)


@contextmanager
def safe_loading() -> Iterator[None]:
    """Inside, `torch.load` runs no code of any file, whatever its caller asks for.

    DeepSpeed's converter and its loaders of universal checkpoints ask for everything. Tensors come
    to the CPU, from where DeepSpeed copies them to where they belong.
    """
    plain = torch.load

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        # Here, since the inner one of two such contexts forgets what the outer one has named.
        with torch.serialization.safe_globals(OWN_CLASSES):
            return plain(file, map_location="cpu", weights_only=True)

    torch.load = load  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = plain
