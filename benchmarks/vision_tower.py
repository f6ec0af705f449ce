"""The vision tower with larger calls against transformers' sdpa path, forward and backward.

    python benchmarks/vision_tower.py                       # the embedded model's tower, CPU
    python benchmarks/vision_tower.py --device cuda         # Qwen2.5-VL-3B's size, bf16

Same weights, same patches; checks first that both give the same features. Medians of alternating
runs, and the ratio.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
from grpo_step_gpu import SIZE_3B
from on_device import wait
from torch import Tensor

from vlrl.policy.vision_language import vision_kernels


def tower(device: str) -> Any:
    """Random weights of Qwen2.5-VL-3B's tower on a GPU, the embedded model's on a CPU."""
    from transformers import AutoConfig, Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
        Qwen2_5_VisionTransformerPretrainedModel as Tower,
    )

    torch.manual_seed(0)
    if device == "cpu":
        config = AutoConfig.from_pretrained(ROOT / "assets/models/tiny_qwen2_5_vl").vision_config
    else:
        config = Qwen2_5_VLConfig(**SIZE_3B).vision_config
    config._attn_implementation = "sdpa"
    return Tower(config).to(device, torch.float32 if device == "cpu" else torch.bfloat16)


def run(model: Any, pixels: Tensor, grid: Tensor) -> tuple[float, Tensor]:
    """Seconds of a forward and backward pass, and the features."""
    wait()
    started = time.perf_counter()
    out = model(pixels, grid_thw=grid).pooler_output
    out.float().square().sum().backward()
    wait()
    return time.perf_counter() - started, out.detach()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    theirs = tower(args.device)
    ours = copy.deepcopy(theirs)
    vision_kernels.use_in(ours)
    print("| visual tokens | transformers s | vlrl s | faster | features differ by |")
    print("|---|---|---|---|---|")
    for length in args.lengths:
        side = 2 * int(length**0.5)
        grid = torch.tensor([[1, side, side]], device=args.device)
        dtype = next(theirs.parameters()).dtype
        pixels = torch.randn(side * side, 1176).to(args.device, dtype)
        times: dict[str, list[float]] = {"theirs": [], "ours": []}
        found: dict[str, Tensor] = {}
        for _ in range(args.repeats + 1):
            for name, model in (("theirs", theirs), ("ours", ours)):
                model.zero_grad()
                seconds, found[name] = run(model, pixels, grid)
                times[name].append(seconds)
        first, second = (statistics.median(times[name][1:]) for name in ("theirs", "ours"))
        gap = (found["theirs"] - found["ours"]).float().norm() / found["theirs"].float().norm()
        print(f"| {length} | {first:.3f} | {second:.3f} | {first / second:.2f}x | {gap:.1e} |")


if __name__ == "__main__":
    main()
