"""One GRPO step of this trainer against TRL's GRPOTrainer: the same model, image and group.

    python benchmarks/grpo_step.py                        # P = 256, 1024, 4096; G = 4, 8, 16
    python benchmarks/grpo_step.py --lengths 1024 --groups 8 --repeats 5 --plain
    python benchmarks/grpo_step.py --lengths 256 --groups 8 --answers 32 256 1024

Both run in one process and take turns: sampling, scoring, reference log-probs, update and
optimizer, float32 on the CPU. The model is the embedded Qwen2.5-VL (5.9 million parameters), the
answers are forced to one length. It first checks that on the same batch both give the same
loss and the same gradients; `trl_settings` and `our_config` (grpo_vs_trl.py) make them equal.
Memory is what autograd keeps for the backward pass at its peak, parameters not counted: on a CPU
that is exact and the same on every machine. `--plain` adds this trainer with share_prompt: off.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from charted import write_chart
from grpo_vs_trl import (
    PHASES,
    Case,
    Times,
    checkpoint,
    our_step,
    our_trainer,
    time_trl,
    trl_trainer,
)
from kept_memory import measured_memory
from on_device import matmul_rate
from torch import Tensor

# --- the same loss and gradients -------------------------------------------------------------


def mask_of(inputs: dict[str, Any]) -> Tensor:
    """Where TRL's batch has answer tokens, [B, T]."""
    return inputs["completion_mask"].bool()


def check_equal(case: Case, model: Path) -> str:
    """Loss and gradients of both trainers on TRL's own batch."""
    from vlrl.algo.aggregate import denominators
    from vlrl.policy.token_trajectory import TokenTrajectory
    from vlrl.train.update import Batch, _chunk_loss

    trainer = trl_trainer(case, model, 1)
    theirs: dict[str, Any] = {}
    plain = trainer.compute_loss

    def keep(network: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Away from the reference, so that the KL term has a value and a gradient too.
        noise = torch.randn(mask_of(inputs).shape, generator=torch.Generator().manual_seed(0))
        inputs["ref_per_token_logps"] = inputs["ref_per_token_logps"] + 0.3 * noise
        loss = plain(network, inputs, *args, **kwargs)
        theirs.update(inputs=inputs, loss=float(loss.detach()))
        return loss

    trainer.compute_loss = keep
    trainer.max_grad_norm = 1e9
    grads: dict[str, Tensor] = {}
    backward = trainer.accelerator.backward

    def keep_gradients(loss: Tensor, **kwargs: Any) -> None:
        backward(loss, **kwargs)
        for name, parameter in trainer.model.named_parameters():
            if parameter.grad is not None:
                grads[name] = parameter.grad.detach().clone()

    trainer.accelerator.backward = keep_gradients
    trainer.train()
    inputs = theirs["inputs"]
    ours = our_trainer(case, model, "on")
    policy = ours.policy
    policy.bind(policy.module, contextlib.nullcontext)
    G = case.group_size
    tokens, mask = inputs["completion_ids"], mask_of(inputs)
    trajectory = TokenTrajectory(
        tokens, mask, torch.zeros(mask.shape), torch.zeros(G, dtype=torch.long),
        (policy.encoder.encode(ours.samples[0]),), inputs["ref_per_token_logps"],
    )  # fmt: skip
    everything = torch.ones(G)
    names = [ours.samples[0].id] * G
    batch = Batch(trajectory, inputs["advantages"], everything, everything.bool(), names)
    totals = torch.tensor(denominators(mask, "sequence", None, 1), dtype=torch.float64)
    policy.module.zero_grad()
    # The trainer's own loss, including old log-probs.
    loss = _chunk_loss(policy, batch, list(range(G)), None, ours.config.algo, totals, None)
    loss.backward()
    mine = {n: p.grad for n, p in policy.module.model.named_parameters() if p.grad is not None}
    if mine.keys() != grads.keys():
        raise SystemExit(f"gradients of different parameters: {sorted(mine.keys() ^ grads.keys())}")
    worst = max(float((mine[name] - grads[name]).abs().max()) for name in grads)
    largest = max(float(grad.abs().max()) for grad in grads.values())
    gap = abs(float(loss.detach()) - theirs["loss"])
    if worst > 1e-4 * largest or gap > 1e-4:
        raise SystemExit(f"not the same: loss differs by {gap:.1e}, gradients by {worst:.1e}")
    return (
        f"same batch: loss {theirs['loss']:.4f} differs by {gap:.1e}, gradients by {worst:.1e} "
        f"at most (the largest is {largest:.1e})"
    )


# --- the limit -------------------------------------------------------------------------------


def least_seconds(case: Case, trainer: Any, rate: float) -> float:
    """Time of the layers' matrix products that no trainer can avoid, at the measured rate.

    Prompt once forward in sampling, once in the reference pass, and forward and backward (three
    forwards' worth) in the update; answers the same. Attention's products and the language head's
    are left out, so the true limit is higher.
    """
    core = trainer.policy.module.core
    prompt = trainer.policy.encoder.encode(trainer.drawing.samples[0])
    text = sum(p.numel() for n, p in core.model.language_model.named_parameters()
               if p.dim() == 2 and "embed" not in n)  # fmt: skip
    vision = sum(p.numel() for p in core.model.visual.blocks.parameters() if p.dim() == 2)
    patches = prompt.num_visual_tokens * 4
    answers = case.group_size * case.num_tokens
    once = 2.0 * (patches * vision + prompt.num_tokens * text) + 2.0 * answers * text
    return 5 * once / rate


def compare(case: Case, model: Path, repeats: int, plain: bool, rate: float) -> dict[str, Times]:
    """Alternate the trainers, then measure the memory of one more step of each; print the rows."""
    names = ("on", "off") if plain else ("on",)
    ours = {name: (our_trainer(case, model, name), Times()) for name in names}
    theirs = Times()
    trl = trl_trainer(case, model, repeats + 1)

    def after_step() -> None:
        for trainer, times in ours.values():
            our_step(trainer, times)

    time_trl(trl, theirs, after_step)
    for trainer, times in ours.values():
        with measured_memory(trainer.policy.module.parameters(), times):
            trainer.train_step()
    again = trl_trainer(case, model, 1)
    with measured_memory(again.model.parameters(), theirs):
        again.train()
    print_row(case, "TRL", theirs, theirs)
    for name, (trainer, times) in ours.items():
        print_row(case, "vlrl" if name == "on" else "vlrl plain", times, theirs)
        if name == "on":
            least = least_seconds(case, trainer, rate)
            whole = times.median("step")
            print(f"|  |  |  | limit | | | | {least:.2f} | {least / whole:.0%} of vlrl's | | |")
    sys.stdout.flush()
    return {"TRL": theirs, **{f"vlrl, {name}": times for name, (_, times) in ours.items()}}


def draw(results: dict[tuple[int, int, int], dict[str, Times]], path: Path) -> None:
    """Seconds per step against G as an SVG file, one line per trainer and prompt length."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for (length, group, _), found in results.items():
        for name, times in found.items():
            point = (float(group), times.median("step"))
            lines.setdefault(f"{name}, P = {length}", []).append(point)
    along = "answers per group, G (seconds per step)"
    write_chart(path, lines, along, smooth=True)


def print_row(case: Case, name: str, times: Times, peer: Times) -> None:
    """Seconds and the peer's multiple of them, by phase and for the whole step; kept memory."""
    cells = [f"{times.median(phase):.2f}" for phase in PHASES]
    if times is not peer:
        ratios = [peer.median(phase) / times.median(phase) for phase in PHASES]
        cells = [f"{cell} ({ratio:.1f}x)" for cell, ratio in zip(cells, ratios, strict=True)]
    faster = peer.median("step") / times.median("step")
    memory = times.peak_bytes / 2**20
    share = times.peak_bytes / max(1, peer.peak_bytes)
    print(
        f"| {case.num_visual} | {case.group_size} | {case.num_tokens} | {name} "
        f"| {' | '.join(cells)} "
        f"| {faster:.2f}x | {memory:.0f} | {share:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--answers", type=int, nargs="+", default=[32], help="tokens per answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="also share_prompt: off")
    parser.add_argument("--svg", type=Path, help="write a plot of seconds against G")
    parser.add_argument("--skip-check", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = checkpoint(folder)
        if not args.skip_check:
            print(check_equal(Case(256, 4, args.answers[0], folder), model))
        rate = matmul_rate("cpu", torch.float32, 1024)
        threads = torch.get_num_threads()
        print(f"{rate / 1e9:.0f} GFLOP/s in plain matrix products, {threads} threads\n")
        heads = (
            "P",
            "G",
            "T",
            "trainer",
            *(f"{p} s" for p in PHASES),
            "faster",
            "kept MiB",
            "share",
        )
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        results: dict[tuple[int, int, int], dict[str, Times]] = {}
        for sizes in product(args.lengths, args.groups, args.answers):
            case = Case(*sizes, folder)
            results[sizes] = compare(case, model, args.repeats, args.plain, rate)
            for path in folder.glob("ours-*"):
                path.rename(folder / f"old-{path.name}-{time.time_ns()}")
        if args.svg is not None:
            draw(results, args.svg)


if __name__ == "__main__":
    main()
