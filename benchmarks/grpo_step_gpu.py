"""One GRPO step at Qwen2.5-VL-3B's size on one GPU, here and in TRL, with and without sharing.

    python benchmarks/grpo_step_gpu.py                       # P = 1024, 4096; G = 8
    python benchmarks/grpo_step_gpu.py --lengths 1024 --groups 8 16 --sides trl on

Random weights in bf16, all of them trained, activations recomputed in the backward pass, answers
forced to one length, settings as in grpo_step.py, which checks that losses and gradients are the
same. One side after another in one process. This trainer's optimizer keeps weights and moments in
float32 (DeepSpeed, ZeRO 0), TRL's keeps them in bf16: "added" is a step's peak of memory without
what was allocated before it. "of the chip" is the time that the matrix products of the linear
layers would take at the measured rate of a plain bf16 product, over the step's. Needs about 110 GiB
of GPU memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cuda")

import torch
from grpo_step import least_seconds
from grpo_vs_trl import (
    MAX_PIXELS,
    PHASES,
    ROOT,
    Case,
    Times,
    our_step,
    our_trainer,
    time_trl,
    trl_trainer,
)
from on_device import Memory, forget, made_there, scratch_folder, stated_rate

SIZE_3B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128_000,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1_000_000.0,
            "mrope_section": [16, 24, 24],
        },
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}
"""Qwen2.5-VL-3B-Instruct's config.json, what differs from the class's defaults."""


def checkpoint(folder: Path, device: str, num_layers: int | None) -> Path:
    """Random weights in bf16, with the embedded model's processor and token ids."""
    import transformers

    embedded = ROOT / "assets/models/tiny_qwen2_5_vl"
    small = transformers.AutoConfig.from_pretrained(embedded)
    names = ("image", "video", "vision_start", "vision_end")
    ids = {f"{name}_token_id": getattr(small, f"{name}_token_id") for name in names}
    parts = {name: dict(part) for name, part in SIZE_3B.items()}
    if num_layers is not None:
        parts["text_config"]["num_hidden_layers"] = parts["vision_config"]["depth"] = num_layers
    config = transformers.Qwen2_5_VLConfig(**parts, **ids, tie_word_embeddings=True)
    torch.manual_seed(0)
    with made_there(device):
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [small.text_config.eos_token_id or 0]
    target = folder / "model"
    model.save_pretrained(target)
    processor = transformers.AutoProcessor.from_pretrained(embedded)
    processor.image_processor.size["longest_edge"] = MAX_PIXELS
    processor.save_pretrained(target)
    count = sum(p.numel() for p in model.parameters()) / 1e9
    print(f"{count:.2f} billion parameters", flush=True)
    return target


def measure(side: str, case: Case, model: Path, repeats: int) -> tuple[Times, float, float]:
    """Times of the steps, GiB at the peak of the last, and how many of those it added."""
    times, memory = Times(), Memory(case.on_gpu)
    if side == "trl":
        trainer = trl_trainer(case, model, repeats + 1)
        # After each step, so that the last reset comes before the last step.
        left = iter(range(repeats, -1, -1))
        time_trl(trainer, times, lambda: memory.reset() if next(left) else None)
    else:
        trainer = our_trainer(case, model, side)
        for _ in range(repeats + 1):
            memory.reset()
            our_step(trainer, times)
    peak, added = memory.peak, memory.added
    if side != "trl":
        times.least_s = least_seconds(case, trainer, 1.0)
    return times, peak, added


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--groups", type=int, nargs="+", default=[8])
    parser.add_argument("--answer", type=int, default=32, help="tokens per answer")
    parser.add_argument("--sides", nargs="+", default=["trl", "off", "on"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, help="fewer layers, to try it")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    with scratch_folder() as folder:
        model = checkpoint(folder, args.device, args.layers)
        forget()
        rate = stated_rate(args.device)
        heads = (
            "P", "G", "trainer", *(f"{p} s" for p in PHASES), "faster", "answer tokens/s",
            "of the chip", "peak GiB", "added GiB",
        )  # fmt: skip
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
        for length in args.lengths:
            for group in args.groups:
                case = Case(length, group, args.answer, folder, lr=1e-6, device=args.device)
                compare(case, model, args.sides, args.repeats, rate)
                for path in folder.glob("ours-*"):
                    path.rename(folder / f"old-{path.name}-{time.time_ns()}")


def compare(case: Case, model: Path, sides: list[str], repeats: int, rate: float) -> None:
    """Measure the sides one after another and print their rows, with ratios to the first."""
    names = {"on": "vlrl", "off": "vlrl, share_prompt: off", "trl": "TRL"}
    first = float("nan")
    for side in sides:
        started = time.perf_counter()
        head = f"| {case.num_visual} | {case.group_size} | {names[side]} |"
        try:
            times, peak, added = measure(side, case, model, repeats)
        except torch.cuda.OutOfMemoryError as error:
            print(f"{head} out of memory: {error} |", flush=True)
            forget()
            continue
        forget()
        step = times.median("step")
        first = step if side == sides[0] else first
        cells = [f"{times.median(phase):.3f}" for phase in PHASES]
        cells += [f"{first / step:.2f}x", f"{case.group_size * case.num_tokens / step:.0f}"]
        cells += [f"{times.least_s / rate / step:.1%}" if times.least_s else ""]
        cells += [f"{peak:.1f}", f"{added:.1f}"]
        print(f"{head} {' | '.join(cells)} |", flush=True)
        print(f"{side}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
