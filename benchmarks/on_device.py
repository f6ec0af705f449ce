"""What benchmarks share on a device: clock, rate, memory, and making large models there."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

GIB = 2**30


def wait() -> None:
    """Until a GPU's queued work is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def matmul_rate(device: str, dtype: torch.dtype, size: int, repeats: int = 8) -> float:
    """Floating-point operations per second of a plain matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    wait()
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def stated_rate(device: str) -> float:
    """The rate in bf16, printed with the device's name; on a CPU of a small product, as a trial."""
    on_gpu = device == "cuda"
    rate = matmul_rate(device, torch.bfloat16, 8192 if on_gpu else 512)
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    print(f"{name}, torch {torch.__version__}: {rate / 1e12:.1f} TFLOP/s in plain products\n")
    return rate


class Memory:
    """GiB of a GPU over what follows `reset`; 0 on a CPU."""

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu, self.before = on_gpu, 0.0

    def reset(self) -> None:
        """Begin."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated() / GIB

    @property
    def peak(self) -> float:
        """The peak since then, including what was allocated before."""
        return torch.cuda.max_memory_allocated() / GIB if self.on_gpu else 0.0

    @property
    def added(self) -> float:
        """The peak without what was allocated before."""
        return self.peak - self.before


def forget() -> None:
    """Free unused memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for gigabytes of weights; in memory where the machine has such a folder."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@contextmanager
def made_there(device: str) -> Iterator[None]:
    """New modules are bf16, on the device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
