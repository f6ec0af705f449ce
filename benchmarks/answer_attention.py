"""Attention of a row in the update: masked calls against two varlen flash calls.

    python benchmarks/answer_attention.py [--device cuda] [--prompts 1024 4096] [--groups 8 16]
    python benchmarks/answer_attention.py --flex      # and torch's flex attention, compiled

Flex attention is one call over the row under a block mask, which is built beforehand and not timed.
Prints medians of alternating runs and ratios to the masked calls. On CUDA in half precision the
trainer times masked and varlen calls on its own first row
(vlrl/policy/vision_language/packed/choice.py); on CPU, whose kernel takes one sequence at a time,
it uses the masked ones. Times are of a forward and a backward pass.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from on_device import wait

from vlrl.policy.vision_language.packed.masked import masked_attention
from vlrl.policy.vision_language.packed.plan import GroupSpan, PackedGroups
from vlrl.policy.vision_language.packed.varlen import varlen_attention

HEADS, KEY_HEADS, DIM = 16, 2, 128  # a layer of Qwen2.5-VL-3B


def seconds(attend: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> float:
    """One forward and backward pass of the attention."""
    wait()
    start = time.perf_counter()
    torch.autograd.grad(attend().float().square().sum(), inputs)
    wait()
    return time.perf_counter() - start


def flex(plan: PackedGroups, inputs: list[torch.Tensor]) -> Callable[[], torch.Tensor]:
    """One compiled call under a block mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    device, L = inputs[0].device, plan.num_tokens
    group, owner = (torch.full((L,), -1, device=device) for _ in range(2))
    for number, span in enumerate(plan.spans):
        group[span.start : span.stop] = number
        column = span.end_of_prompt
        for index, length in enumerate(span.lengths):
            owner[column : column + length] = index
            column += length

    def sees(_b: Any, _h: Any, q: Any, k: Any) -> Any:
        answer = (owner[k] < 0) | (owner[q] == owner[k])
        return (q >= k) & (group[q] == group[k]) & answer

    mask = create_block_mask(sees, None, None, L, L, device=device)
    compiled: Any = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(*inputs, block_mask=mask, enable_gqa=True)


def main() -> int:
    """Time all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--in-a-row", type=int, nargs="+", default=[1, 4], help="groups")
    parser.add_argument("--answer-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--flex", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    names = ["masked", "varlen", *(["flex"] if args.flex else [])]
    heads = ["P", "G", "groups in the row", *(f"{name} ms" for name in names)]
    heads += [f"masked / {name}" for name in names[1:]]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for P, G, num in itertools.product(args.prompts, args.groups, args.in_a_row):
        lengths = (args.answer_tokens,) * G
        starts = range(0, num * (P + sum(lengths)), P + sum(lengths))
        plan = PackedGroups(tuple(GroupSpan(start, P, lengths) for start in starts))
        shapes = [(1, n, plan.num_tokens, DIM) for n in (HEADS, KEY_HEADS, KEY_HEADS)]
        inputs = [torch.randn(s, device=device, dtype=dtype, requires_grad=True) for s in shapes]
        sides: dict[str, Callable[[], torch.Tensor]] = {
            "masked": partial(masked_attention, *inputs, plan),
            "varlen": partial(varlen_attention, *inputs, plan),
        }
        if args.flex:
            sides["flex"] = flex(plan, inputs)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.repeats + 2):
            for name, attend in sides.items():
                times[name].append(seconds(attend, inputs))
        found = {name: statistics.median(each[2:]) for name, each in times.items()}
        cells = [f"{1000 * found[name]:.2f}" for name in names]
        cells += [f"{found['masked'] / found[name]:.2f}" for name in names[1:]]
        print(f"| {P} | {G} | {num} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
