"""Kinds of GPUs, and what of their peak rates a training sustains.

Memory is what torch reports as total; rates are those of NVIDIA's data sheets, dense, one way.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU."""

    memory_bytes: float
    flops: float
    """Of dense bf16 matrix products with float32 sums, per second."""
    bandwidth: float
    """Of its memory, bytes per second."""
    link: float
    """To other GPUs of its node, bytes per second and direction: NVLink, else PCIe."""


GPUS = {
    "b200_180gb": Gpu(178.3 * GIB, 2250e12, 8000e9, 900e9),
    "h200_141gb": Gpu(139.8 * GIB, 989e12, 4800e9, 450e9),
    "h100_80gb": Gpu(79.1 * GIB, 989e12, 3350e9, 450e9),
    "a100_80gb": Gpu(79.2 * GIB, 312e12, 2039e9, 300e9),
    "a100_40gb": Gpu(39.4 * GIB, 312e12, 1555e9, 300e9),
    "l40s_48gb": Gpu(44.4 * GIB, 362e12, 864e9, 32e9),
    "rtx_4090_24gb": Gpu(23.6 * GIB, 165e12, 1008e9, 32e9),
}

SUSTAINED_FLOPS = 0.4
"""Share of the peak in packed rows of models of this size: 400 TFLOP/s on an H100; assumed."""
SUSTAINED_BANDWIDTH = 0.8
"""Share of the peak that kernels which only read and write reach; assumed."""
SUSTAINED_LINK = 0.55
"""Share of NVLink's rate in gathering weights: 250 GB/s on an H100; assumed."""
CALL_S = 9e-6
"""CPU time of an operation that Python dispatches: 3,620 took 31 to 35 ms on an AMD EPYC core."""
RECORDED_KERNEL_S = 5e-6
"""Time of a small kernel of a CUDA graph, at least; assumed."""
RESERVED_BYTES = 2 * GIB
"""For the CUDA context, NCCL's buffers and cuBLAS' workspace; assumed."""
FRAGMENTED = 0.05
"""Share of the memory that torch's allocator holds without using it; assumed."""


def usable_bytes(gpu: Gpu) -> float:
    """What tensors can take of a GPU's memory."""
    return gpu.memory_bytes * (1 - FRAGMENTED) - RESERVED_BYTES
