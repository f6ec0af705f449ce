"""A group's attention in the update: masked blocks against two flash calls, forward and backward.

    python benchmarks/answer_attention.py [--device cuda] [--prompts 1024 4096] [--groups 8 16]
    python benchmarks/answer_attention.py --flex      # and torch's flex attention, compiled

The first two attend prompt to prompt the same way; the difference is the answers'. Flex attention
is one call over the row under a block mask, which is made before and not timed. Prints medians of
alternating runs and ratios to the masked blocks. On CUDA in half precision the trainer takes the
two calls, after a trial of their numbers; on CPU the masked blocks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from on_device import wait
from torch import nn

from vlrl.policy.group_attention import GroupSpan, PackedGroups, group_attention, span_of

HEADS, KEY_HEADS, DIM = 16, 2, 128  # a layer of Qwen2.5-VL-3B


class Layer(nn.Module):
    """What the attention function asks of its layer."""

    num_key_value_groups = HEADS // KEY_HEADS


def seconds(attend: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> float:
    """One forward and backward pass of the attention."""
    wait()
    start = time.perf_counter()
    torch.autograd.grad(attend().float().square().sum(), inputs)
    wait()
    return time.perf_counter() - start


def grouped(plan: PackedGroups, inputs: list[torch.Tensor], splits: bool) -> torch.Tensor:
    """The trainer's, by either of its ways."""
    with mock.patch("vlrl.policy.group_attention.serves", return_value=splits):
        return group_attention(Layer(), *inputs, None, groups=plan)[0]


def flex(span: GroupSpan, inputs: list[torch.Tensor]) -> Callable[[], torch.Tensor]:
    """One compiled call under a block mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    device, L = inputs[0].device, span.stop
    lengths = [n for block in span.blocks for n in block.lengths]
    owner = torch.full((L,), -1, device=device)
    column = span.end_of_prompt
    for index, length in enumerate(lengths):
        owner[column : column + length] = index
        column += length

    def sees(_b: Any, _h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & ((owner[k] < 0) | (owner[q] == owner[k]))

    mask = create_block_mask(sees, None, None, L, L, device=device)
    compiled: Any = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(*inputs, block_mask=mask, enable_gqa=True).transpose(1, 2)


def main() -> int:
    """Time all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--answer-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--flex", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    names = ["masked", "split", *(["flex"] if args.flex else [])]
    heads = ["P", "G", *(f"{name} ms" for name in names), *(f"masked / {n}" for n in names[1:])]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for P in args.prompts:
        for G in args.groups:
            span = span_of(0, P, [args.answer_tokens] * G)
            shapes = [(1, n, span.stop, DIM) for n in (HEADS, KEY_HEADS, KEY_HEADS)]
            inputs = [
                torch.randn(s, device=device, dtype=dtype, requires_grad=True) for s in shapes
            ]
            plan = PackedGroups((span,)).to(device)
            sides: dict[str, Callable[[], torch.Tensor]] = {
                "masked": partial(grouped, plan, inputs, False),
                "split": partial(grouped, plan, inputs, True),
            }
            if args.flex:
                sides["flex"] = flex(span, inputs)
            times: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(args.repeats + 2):
                for name, attend in sides.items():
                    times[name].append(seconds(attend, inputs))
            found = {name: statistics.median(each[2:]) for name, each in times.items()}
            cells = [f"{1000 * found[name]:.2f}" for name in names]
            cells += [f"{found['masked'] / found[name]:.2f}" for name in names[1:]]
            print(f"| {P} | {G} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
