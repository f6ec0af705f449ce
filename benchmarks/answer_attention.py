"""A group's attention in the update: masked blocks against two flash calls, forward and backward.

    python benchmarks/answer_attention.py [--device cuda] [--prompts 1024 4096] [--groups 8 16]

Both sides attend prompt to prompt the same way; the difference is the answers'. Prints medians of
alternating runs and their ratio. On CUDA in half precision the trainer takes the two calls, after
a trial of their numbers; on CPU the masked blocks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn

from vlrl.policy.group_attention import PackedGroups, group_attention, span_of

HEADS, KEY_HEADS, DIM = 16, 2, 128  # a layer of Qwen2.5-VL-3B


class Layer(nn.Module):
    """What the attention function asks of its layer."""

    num_key_value_groups = HEADS // KEY_HEADS


def seconds(plan: PackedGroups, inputs: list[torch.Tensor], splits: bool) -> float:
    """One forward and backward pass of the attention."""
    device = inputs[0].device
    with mock.patch("vlrl.policy.group_attention.serves", return_value=splits):
        _wait(device)
        start = time.perf_counter()
        out, _ = group_attention(Layer(), *inputs, None, groups=plan)
        torch.autograd.grad(out.float().square().sum(), inputs)
        _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> int:
    """Time all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--answer-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    print("| P | G | masked s | split s | masked / split |\n|---|---|---|---|---|")
    for P in args.prompts:
        for G in args.groups:
            span = span_of(0, P, [args.answer_tokens] * G)
            shapes = [(1, n, span.stop, DIM) for n in (HEADS, KEY_HEADS, KEY_HEADS)]
            inputs = [
                torch.randn(s, device=device, dtype=dtype, requires_grad=True) for s in shapes
            ]
            times: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(args.repeats + 1):
                for splits, found in times.items():
                    found.append(seconds(PackedGroups((span,)).to(device), inputs, splits))
            masked, split = (statistics.median(times[s][1:]) for s in (False, True))
            print(f"| {P} | {G} | {masked:.4f} | {split:.4f} | {masked / split:.2f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
