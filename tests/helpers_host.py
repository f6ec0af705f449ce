"""A second torch device, `host`, made of ordinary memory, and runs on it.

It differs from the CPU only where code mixes up devices: an operator on tensors of
both is an error, as on a GPU (tests/host_device/host_device.cpp). With VLRL_SECOND_DEVICE=cuda the
second device is a GPU, in full float32.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

SOURCE = Path(__file__).resolve().parent / "host_device" / "host_device.cpp"
BUILD = SOURCE.parents[2] / "build" / "host_device"
"""Compiled once, and again when the source or torch changes; 25 s on one core."""


@functools.cache
def host_device() -> torch.device:
    """Compile and register the device; the test is skipped where there is no compiler."""
    from torch.utils.cpp_extension import load

    if os.environ.get("VLRL_SECOND_DEVICE") == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        return torch.device("cuda", 0)
    if shutil.which("c++") is None:
        pytest.skip("the second device is compiled, and there is no c++ here")
    BUILD.mkdir(parents=True, exist_ok=True)
    load("host_device", [str(SOURCE)], extra_cflags=["-O1"], build_directory=str(BUILD))
    torch.utils.rename_privateuse1_backend("host")
    module: Any = ModuleType("torch.host")
    module.is_available = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    # Asked by torch.manual_seed, which else warns.
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None
    torch._register_device_module("host", module)
    torch.utils.generate_methods_for_privateuse1_backend()
    return torch.device("host", 0)


class PlainEngine(nn.Module):
    """What vlrl.distributed.engine needs of DeepSpeed, for one rank on any device."""

    def __init__(self, model: nn.Module, optimizer: Any, lr_scheduler: Any, clip: float) -> None:
        super().__init__()
        self.module, self.optimizer, self.schedule = model, optimizer, lr_scheduler
        self.clip, self.norm, self.skipped_steps = clip, float("nan"), 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def backward(self, loss: torch.Tensor, scale_wrt_gas: bool) -> None:
        assert not scale_wrt_gas
        loss.backward()

    def step(self) -> None:
        """Clip, update, and clear the gradients."""
        weights = [p for p in self.module.parameters() if p.requires_grad]
        self.norm = float(nn.utils.clip_grad_norm_(weights, self.clip or float("inf")))
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def get_global_grad_norm(self) -> float:
        return self.norm

    def destroy(self) -> None: ...


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """Inside, this process trains and samples there, without DeepSpeed, with plain kernels."""
    import vlrl.distributed.engine as engine
    from vlrl.distributed import comm

    def initialize(*, model: nn.Module, config: dict[str, Any], **kwargs: Any) -> tuple[Any, ...]:
        clip = config["gradient_clipping"]
        return (PlainEngine(model.to(device), kwargs["optimizer"], kwargs["lr_scheduler"], clip),)

    with pytest.MonkeyPatch.context() as patch, sdpa_kernel(SDPBackend.MATH):
        # As on the way to a GPU, parameters stay the same objects, and tied ones tied.
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
        patch.setattr(comm, "init", lambda *_, **__: comm.World(0, 1, device))
        patch.setattr(engine.deepspeed, "initialize", initialize)
        yield
