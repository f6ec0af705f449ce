"""One GRPO step of the flow policy against flow_grpo's published loop: same model, prompts, noise.

    python benchmarks/flow_step.py                       # 4 prompts x 9 images, 3 repeats
    python benchmarks/flow_step.py --prompts 1 --px 128 --width 256 --layers 8

It first checks that under the same recipe (guided, every step but the last trained) both make
the same images, losses and gradients, while the ratio is 1 and after the weights have moved.
Then the changes are made one after another, in one process, a step of each side in turn, float32
on the CPU. Encoding the prompts once and stacking the steps do not change the gradients; a
window and no guidance do: fewer steps are trained, and of another model. On a busy machine CPU
seconds vary less than wall seconds, so the speed-up of each change is given in them. "kept" is what
autograd holds for the backward pass at its peak, parameters not counted; sampling holds nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from flow_published import PublishedLoop
from flow_vs_published import (
    PHASES,
    Case,
    PipelineSize,
    Times,
    checkpoint,
    our_step,
    our_trainer,
    weight_bytes,
)
from kept_memory import measured_memory
from torch import Tensor

from vlrl.seeds import row_seed
from vlrl.train.sampler import PromptSampler

WINDOW = {"num_steps": 3, "placement": "random"}
OURS: dict[str, dict[str, Any]] = {
    "vlrl, same recipe": {"stack_steps": False},
    "+ steps stacked (b)": {},
    "+ window of 3 (c)": {"window": WINDOW},
    "+ no guidance (d)": {"window": WINDOW, "guidance": "off"},
}
"""This trainer's rows; each adds one change to the row above it."""
STORED = "+ log-probs of sampling (e)"
PUBLISHED = "published loop"
ENCODED_ONCE = "+ prompts once (a)"


def our_rows(case: Case) -> dict[str, dict[str, Any]]:
    """OURS; with several optimizer steps also the change that saves the pass for old log-probs."""
    if case.num_minibatches == 1:
        return OURS
    found: dict[str, dict[str, Any]] = {}
    for name, recipe in OURS.items():
        found[name] = {**recipe, "old_logp": "rollout"} if STORED in found else recipe
        if name.endswith("(b)"):
            found[STORED] = {"old_logp": "rollout"}
    return found


# --- the same losses and gradients -----------------------------------------------------------


class Recorder:
    """In place of the optimizer: records losses and gradients, moves the weights a fixed length."""

    lr = 0.0

    def __init__(self, module: torch.nn.Module, length: float) -> None:
        self.parameters = list(module.parameters())
        self.length = length
        self.losses: list[float] = []
        self.gradients: list[Tensor] = []
        self._loss = 0.0

    def backward(self, loss: Tensor) -> None:
        """Add its gradient."""
        self._loss += float(loss.detach())
        loss.backward()

    def step(self, suspects: Sequence[str] = ()) -> float:
        """Along the gradient, so that rounding noise in it stays small in the weights."""
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = torch.cat([part.flatten() for part in parts])
        self.losses.append(self._loss)
        self.gradients.append(flat)
        self._loss = 0.0
        with torch.no_grad():
            for parameter, part in zip(self.parameters, parts, strict=True):
                parameter.sub_(part * (self.length / flat.norm()))
                parameter.grad = None
        return float(flat.norm())


@dataclass(frozen=True)
class Agreement:
    """Largest differences between the two sides; relative to the largest value unless stated."""

    latents: float
    """Of every trained step of every image."""
    advantage: float
    losses: tuple[float, ...]
    """One per optimizer step; relative to the mean size of an action's loss."""
    gradients: tuple[float, ...]
    """Largest difference / largest gradient, one per optimizer step."""
    moved: float
    """Largest difference between the gradients of both optimizer steps, in the same unit."""
    clipped: float
    """Share of actions whose ratio was clipped, over both optimizer steps."""


def check_equal(case: Case, model: Path, name: str, recipe: dict[str, Any]) -> Agreement:
    """Two optimizer steps of both sides on the same advantages."""
    from vlrl.log.metrics import Meter
    from vlrl.train.update import update

    trainer = our_trainer(case, model, f"check {name}", recipe)
    meter = Meter()
    batch = trainer.prepare(trainer.collect(meter), meter)
    policy = trainer.policy
    policy.bind(policy.module, contextlib.nullcontext)
    ours = Recorder(policy.module, length=0.02)
    # Twice over the same rollouts: in the second step the ratio is not 1.
    algo = trainer.config.algo.model_copy(update={"num_epochs": 2})
    update(policy, ours, batch, algo, trainer.world, meter)  # type: ignore[arg-type]

    loop = PublishedLoop(case, model)
    theirs = Recorder(loop.transformer, length=0.02)
    loop.stepper = theirs
    by_id = {sample.id: sample for sample in trainer.drawing.samples}
    drawn = [by_id[name] for name in batch.sample_ids[:: case.group_size]]
    rollouts = loop.sample(drawn, row_seed(case.seed, "rollout", trainer.curriculum.position))
    rewards = torch.tensor([float(p.float().mean() / 255) for p in rollouts.images])
    for _ in range(2):
        loop.update(rollouts, batch.advantage)

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a - b).abs().max() / b.abs().max())

    metrics = meter.reduce(trainer.world)
    size = float(batch.advantage.abs().mean())
    return Agreement(
        apart(batch.trajectory.after, rollouts.latents[:, 1:-1]),
        apart(batch.advantage, loop.advantages(rewards)),
        tuple(abs(a - b) / size for a, b in zip(ours.losses, theirs.losses, strict=True)),
        tuple(apart(a, b) for a, b in zip(ours.gradients, theirs.gradients, strict=True)),
        apart(theirs.gradients[1], theirs.gradients[0]),
        metrics["update/clip_fraction"],
    )


def describe(name: str, found: Agreement) -> str:
    """One line."""
    losses = " and ".join(f"{value:.1e}" for value in found.losses)
    gradients = " and ".join(f"{value:.1e}" for value in found.gradients)
    return (
        f"{name}: latents differ by {found.latents:.1e}, advantages by {found.advantage:.1e}, "
        f"losses of two optimizer steps by {losses}, gradients by {gradients} (relative; the two "
        f"steps' own gradients differ by {found.moved:.1e}, {found.clipped:.0%} of ratios clipped)"
    )


# --- times -----------------------------------------------------------------------------------


def forwards(case: Case, recipe: dict[str, Any] | None) -> float:
    """Forwards per image, a backward counted as two; None = the published recipe."""
    anew = recipe is not None and recipe.get("old_logp", "recompute") == "recompute"
    anew &= case.num_minibatches > 1
    recipe = recipe or {}
    trained = recipe.get("window", {"num_steps": case.num_steps - 1})["num_steps"]
    passes = 1 if recipe.get("guidance") == "off" else 2
    return float(passes * (case.num_steps + (3 + anew) * trained))


@dataclass
class Side:
    """One row of the table while it is measured."""

    times: Times
    step: Callable[[], None]
    parameters: Callable[[], Any]
    """Those that are trained."""
    weight_bytes: int
    """Of all weights that stay in memory."""


def published_side(loop: PublishedLoop, samples: Sequence[Any]) -> Side:
    """The published loop, drawing prompts and seeds as the trainer does."""
    case, times = loop.case, Times()
    sampler = PromptSampler(len(samples), case.seed)

    def step() -> None:
        drawn = [samples[i] for i in sampler.take(case.num_prompts)]
        loop.step(drawn, row_seed(case.seed, "rollout", sampler.position), times)

    held = weight_bytes(loop.pipeline)
    if loop.kept is not None:
        parts = (loop.pipeline.text_encoder, loop.pipeline.text_encoder_2)
        held -= sum(
            p.nbytes for m in (*parts, loop.pipeline.text_encoder_3) for p in m.parameters()
        )
    return Side(times, step, loop.transformer.parameters, held)


def our_side(trainer: Any) -> Side:
    """This trainer."""
    times, policy = Times(), trainer.policy
    held = weight_bytes(policy.pipeline, policy.module)
    return Side(times, lambda: our_step(trainer, times), policy.module.parameters, held)


def measure(case: Case, model: Path, repeats: int) -> dict[str, Times]:
    """Steps of all sides in turn, then the memory of one more step of each."""
    rows = our_rows(case)
    trainers = {name: our_trainer(case, model, name, recipe) for name, recipe in rows.items()}
    samples = next(iter(trainers.values())).samples
    loop = PublishedLoop(case, model)
    sides = {
        PUBLISHED: published_side(loop, samples),
        ENCODED_ONCE: published_side(PublishedLoop(case, model, encode_once=True), samples),
        **{name: our_side(trainer) for name, trainer in trainers.items()},
    }
    loop.encoding_s = 0.0
    for turn in range(repeats + 1):
        for side in sides.values():
            started = time.process_time()
            side.step()
            side.times.cpu_s.append(time.process_time() - started)
        step = ", ".join(f"{side.times.seconds['step'][-1]:.2f}" for side in sides.values())
        print(f"turn {turn}: {step} s", file=sys.stderr, flush=True)
    whole = sum(sides[PUBLISHED].times.seconds["step"])
    print(f"\ntext encoders: {loop.encoding_s / whole:.2%} of the published loop's time")
    for side in sides.values():
        kept = {phase: list(seconds) for phase, seconds in side.times.seconds.items()}
        with measured_memory(side.parameters(), side.times):
            side.step()
        for phase, seconds in kept.items():  # the hooks cost time: this step is not timed
            side.times.seconds[phase][:] = seconds
        side.times.weight_bytes = side.weight_bytes
    return {name: side.times for name, side in sides.items()}


def print_table(case: Case, found: dict[str, Times]) -> None:
    """Seconds by phase, ratios to the published loop, each change's share of the CPU time saved."""
    first, last, rows = found[PUBLISHED], list(found.values())[-1], our_rows(case)
    saved = first.median_cpu_s - last.median_cpu_s
    heads = (
        "", *(f"{p} s" for p in PHASES), "sampling", "update", "step", "CPU s", "step, CPU",
        "lever alone", "share", "forwards", "kept MiB", "kept", "weights MiB",
    )  # fmt: skip
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    before = first
    for name, times in found.items():
        cells = [f"{times.median(phase):.2f}" for phase in PHASES]
        cells += [
            f"{first.median(p) / times.median(p):.2f}x" for p in ("sampling", "update", "step")
        ]
        step, above = times.median_cpu_s, before.median_cpu_s
        cells += [f"{step:.2f}", f"{first.median_cpu_s / step:.2f}x"]
        lever = times is not first
        cells += [f"{above / step:.2f}x" if lever else ""]
        cells += [f"{(above - step) / saved:.0%}" if lever else ""]
        cells += [f"{forwards(case, rows.get(name)):.0f}"]
        cells += [f"{times.peak_bytes / 2**20:.1f}"]
        cells += [f"{times.peak_bytes / first.peak_bytes:.2f}"]
        cells += [f"{times.weight_bytes / 2**20:.1f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        before = times
    ratio = first.median("step") / last.median("step")
    expected = forwards(case, None) / forwards(case, list(rows.values())[-1])
    print(
        f"\nThe fast recipe takes {1 / ratio:.0%} of the published loop's time: {ratio:.2f} times "
        f"faster (CPU time: {first.median_cpu_s / last.median_cpu_s:.2f}, forwards alone: "
        f"{expected:.2f}). (a), (b) and (e) leave the gradients equal; (c) and "
        f"(d) change them: {WINDOW['num_steps']} trained steps instead of {case.num_steps - 1}, "
        "and a model without guidance."
    )


def main() -> None:
    """Check, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    size = PipelineSize()
    parser.add_argument("--px", type=int, default=size.image_px, help="side of an image")
    parser.add_argument("--width", type=int, default=size.width)
    parser.add_argument("--layers", type=int, default=size.num_layers)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=9)
    parser.add_argument("--micro-batch", type=int, default=9, help="images per forward")
    parser.add_argument(
        "--minibatches", type=int, default=1, help="optimizer steps per training step"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 = all cores")
    parser.add_argument("--skip-check", action="store_true")
    args = parser.parse_args()
    size = replace(size, image_px=args.px, width=args.width, num_layers=args.layers)
    with tempfile.TemporaryDirectory() as scratch:
        case = Case(
            Path(scratch), size, args.prompts, args.group, args.micro_batch,
            num_threads=args.threads, num_minibatches=args.minibatches,
        )  # fmt: skip
        if args.threads:
            torch.set_num_threads(args.threads)
        model = checkpoint(case)
        if not args.skip_check:
            equal = [name for name in our_rows(case) if name not in list(OURS)[2:]]
            for name in equal:
                found = check_equal(case, model, name, our_rows(case)[name])
                print(describe(name, found), flush=True)
        print_table(case, measure(case, model, args.repeats))


if __name__ == "__main__":
    main()
