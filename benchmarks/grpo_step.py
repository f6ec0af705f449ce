"""One GRPO step of this trainer beside TRL's GRPOTrainer: the same model, picture and group.

    python benchmarks/grpo_step.py                        # P = 256, 1024, 4096; G = 4, 8, 16
    python benchmarks/grpo_step.py --lengths 1024 --groups 8 --repeats 5 --plain

Both run in one process, a step each in turn: sampling, scoring, reference log-probs, update and
optimizer, float32 on the CPU. The model is the embedded Qwen2.5-VL (5.9 million parameters), the
answers are forced to one length. First it is checked that on the same batch both give the same
loss and the same gradients; `trl_settings` and `our_config` are the settings that make them equal.
Memory is what autograd keeps for the backward pass at its peak, parameters not counted: on a CPU
that is exact and the same on every machine. `--plain` adds this trainer with share_prompt: off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for key, value in {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}.items():
    os.environ.setdefault(key, value)

import numpy as np
import torch
from PIL import Image
from torch import Tensor

QUESTION = "Click: the button left of Save"
PHASES = ("sampling", "reference", "update", "step")


def letters(rollout: Any) -> float:
    """A reward that differs from answer to answer."""
    return score(rollout.output)


def score(text: str) -> float:
    """Between 0 and 1, by the letters of the answer."""
    return (sum(ord(c) for c in text) % 17) / 17


@dataclass
class Case:
    """One comparison: visual tokens of the picture, answers of the group, tokens of an answer."""

    num_visual: int
    group_size: int
    num_tokens: int
    folder: Path
    lr: float = 1e-4
    beta: float = 0.04

    @property
    def picture(self) -> Path:
        """A noisy picture that becomes exactly so many visual tokens."""
        path = self.folder / f"{self.num_visual}.png"
        if not path.is_file():
            rows = int(self.num_visual**0.5)
            size = (28 * (self.num_visual // rows), 28 * rows)
            noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
            Image.fromarray(noise).save(path)
        return path


@dataclass
class Times:
    """Seconds of every step, by phase, and peak bytes kept for the backward pass."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {p: [] for p in PHASES})
    peak_bytes: int = 0

    def median(self, phase: str) -> float:
        """Of the steps; the first one, which warms up, left out."""
        return median(self.seconds[phase][1:])


def checkpoint(folder: Path) -> Path:
    """The embedded model with a processor that takes large pictures."""
    source, target = ROOT / "assets/models/tiny_qwen2_5_vl", folder / "model"
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    file = target / "processor_config.json"
    data = json.loads(file.read_text())
    data["image_processor"]["size"]["longest_edge"] = 12_845_056
    file.write_text(json.dumps(data))
    return target


# --- what autograd keeps ---------------------------------------------------------------------


class _Kept:
    """A saved tensor; its storage counts once, while anything that shares it lives."""

    live: ClassVar[dict[int, list[int]]] = {}
    bytes_now = 0
    bytes_peak = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        storage = tensor.untyped_storage()
        self.key = storage.data_ptr()
        entry = _Kept.live.setdefault(self.key, [0, storage.nbytes()])
        entry[0] += 1
        if entry[0] == 1:
            _Kept.bytes_now += entry[1]
            _Kept.bytes_peak = max(_Kept.bytes_peak, _Kept.bytes_now)

    def __del__(self) -> None:
        entry = _Kept.live[self.key]
        entry[0] -= 1
        if entry[0] == 0:
            _Kept.bytes_now -= entry[1]
            del _Kept.live[self.key]


@contextlib.contextmanager
def measured_memory(parameters: Iterator[Tensor], times: Times) -> Iterator[None]:
    """Note the peak of what is kept for backward passes inside, parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    _Kept.bytes_now = _Kept.bytes_peak = 0

    def pack(tensor: Tensor) -> Any:
        return tensor if tensor.untyped_storage().data_ptr() in own else _Kept(tensor)

    def unpack(kept: Any) -> Tensor:
        return kept.tensor if isinstance(kept, _Kept) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
    times.peak_bytes = _Kept.bytes_peak


# --- TRL -------------------------------------------------------------------------------------


def trl_settings(case: Case, num_steps: int) -> dict[str, Any]:
    """GRPO as in our_config: mean per answer, k3 KL, group z-score, clip 0.2, T = 1."""
    return {
        "output_dir": str(case.folder / "trl"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "max_steps": num_steps,
        "num_generations": case.group_size,
        "per_device_train_batch_size": case.group_size,
        "max_completion_length": case.num_tokens,
        "generation_kwargs": {"min_new_tokens": case.num_tokens, "top_k": 0},
        "beta": case.beta,
        # TRL's default multiplies the KL term by the ratio, which changes its gradient.
        "use_bias_correction_kl": False,
        "loss_type": "grpo",
        "scale_rewards": "group",
        "epsilon": 0.2,
        "temperature": 1.0,
        "learning_rate": case.lr,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "remove_unused_columns": False,
        "seed": 0,
    }


def trl_trainer(case: Case, model: Path, num_steps: int) -> Any:
    """TRL's GRPOTrainer on the one picture."""
    from datasets import Dataset
    from transformers import AutoProcessor, PrinterCallback, Qwen2_5_VLForConditionalGeneration
    from trl import GRPOConfig, GRPOTrainer

    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    rows = [{"prompt": [{"role": "user", "content": content}]}] * (num_steps + 1)
    with Image.open(case.picture) as image:
        picture = image.convert("RGB")
    data = Dataset.from_list(rows).add_column("row", list(range(len(rows))))
    data = data.with_transform(lambda batch: {**batch, "image": [picture] * len(batch["row"])})

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [score(chat[0]["content"]) for chat in completions]

    trainer = GRPOTrainer(
        model=Qwen2_5_VLForConditionalGeneration.from_pretrained(model, dtype=torch.float32),
        processing_class=AutoProcessor.from_pretrained(model),
        reward_funcs=reward,
        train_dataset=data,
        args=GRPOConfig(**trl_settings(case, num_steps)),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def time_trl(trainer: Any, times: Times, after_step: Callable[[], None]) -> None:
    """Train; phases are timed around TRL's own methods, `after_step` runs between its steps."""
    from transformers import TrainerCallback

    timed(trainer, "_generate", times.seconds["sampling"])
    timed(trainer, "_get_per_token_logps_and_entropies", reference := [], no_grad_only=True)
    prepared: list[float] = []
    timed(trainer, "_generate_and_score_completions", prepared)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.started = time.perf_counter()
            reference.clear()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            whole = time.perf_counter() - self.started
            times.seconds["step"].append(whole)
            times.seconds["reference"].append(sum(reference))
            times.seconds["update"].append(whole - prepared[-1])
            after_step()

    trainer.add_callback(Clock())
    trainer.train()


def timed(owner: Any, name: str, into: list[float], no_grad_only: bool = False) -> None:
    """Replace a method by itself with a clock around it."""
    plain = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = plain(*args, **kwargs)
        if not (no_grad_only and torch.is_grad_enabled()):
            into.append(time.perf_counter() - started)
        return result

    setattr(owner, name, wrapped)


# --- ours ------------------------------------------------------------------------------------


def our_config(case: Case, model: Path, share: str) -> dict[str, Any]:
    """The run that equals trl_settings."""
    row = {"id": "a", "image": str(case.picture), "instruction": QUESTION, "bbox": [1, 1, 9, 9]}
    with Image.open(case.picture) as image:
        row["image_size"] = list(image.size)
    data = case.folder / f"{case.num_visual}.jsonl"
    data.write_text(json.dumps(row) + "\n")
    return {
        "name": f"ours-{share}-{case.num_visual}-{case.group_size}",
        "out": str(case.folder),
        "task": {
            "use": "gui_grounding",
            "prompt": "{instruction}",
            "max_pixels": 12_845_056,
            "data": {"train": {"path": str(data)}},
        },
        "policy": {
            "use": "vision_language",
            "model": str(model),
            "max_new_tokens": case.num_tokens,
            "share_prompt": share,
        },
        "reward": {"use": f"{Path(__file__).stem}:letters"},
        "algo": {
            "num_prompts": 1,
            "group_size": case.group_size,
            "kl_beta": case.beta,
            "advantage": "group_zscore",
            "aggregate": "sequence",
        },
        "optim": {"lr": case.lr, "betas": [0.9, 0.999]},
        "dist": {"deepspeed": str(ROOT / "deepspeed_configs/zero0.json"),
                 "max_tokens_per_chunk": 1_000_000},
        "checkpoint": {"at_end": False, "export": False},
        "log": {"console": False, "report": False, "rollouts_every": 0},
    }  # fmt: skip


def our_trainer(case: Case, model: Path, share: str) -> Any:
    """This project's trainer, its answers forced to full length."""
    from vlrl.build import build_trainer
    from vlrl.config.resolve import check
    from vlrl.config.schema import RunConfig

    trainer = build_trainer(check(RunConfig, our_config(case, model, share)), None)
    trainer.policy.stop_tokens = torch.zeros(0, dtype=torch.long)
    return trainer


def our_step(trainer: Any, times: Times) -> None:
    """One training step; its own clock gives the phases."""
    started = time.perf_counter()
    figures = trainer.train_step()
    times.seconds["step"].append(time.perf_counter() - started)
    for phase in ("sampling", "reference", "update"):
        times.seconds[phase].append(figures[f"time/{phase}_s"])


# --- the same loss and gradients -------------------------------------------------------------


def mask_of(inputs: dict[str, Any]) -> Tensor:
    """Where TRL's batch has answer tokens, [B, T]."""
    return inputs["completion_mask"].bool()


def check_equal(case: Case, model: Path) -> str:
    """Loss and gradients of both trainers on TRL's own batch."""
    from vlrl.algo import aggregate
    from vlrl.algo.kl import KL_ESTIMATORS
    from vlrl.algo.objectives import OBJECTIVES, Clip
    from vlrl.policy.trajectory import TokenTrajectory

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
    now = policy.evaluate(trajectory)
    objective = OBJECTIVES["clip"](
        now.logp, now.logp.detach(), inputs["advantages"], mask, Clip(0.2, 0.2)
    )
    kl = KL_ESTIMATORS["k3"](now.logp, inputs["ref_per_token_logps"])
    summed = aggregate.numerator(
        objective.loss + case.beta * kl, mask, "sequence", torch.ones(G), 64
    )
    loss = summed / aggregate.denominator(mask, "sequence")
    policy.module.zero_grad()
    loss.backward()
    worst, largest = 0.0, 0.0
    for name, parameter in policy.module.model.named_parameters():
        if parameter.grad is None or name not in grads:
            continue
        worst = max(worst, float((parameter.grad - grads[name]).abs().max()))
        largest = max(largest, float(grads[name].abs().max()))
    gap = abs(float(loss.detach()) - theirs["loss"])
    return (
        f"same batch: loss {theirs['loss']:.4f} differs by {gap:.1e}, gradients by {worst:.1e} "
        f"at most (the largest is {largest:.1e})"
    )


# --- the limit -------------------------------------------------------------------------------


def matmul_rate(size: int = 1024, repeats: int = 8) -> float:
    """Floating-point operations a second of a plain float32 matrix product."""
    a = torch.randn(size, size)
    a @ a
    started = time.perf_counter()
    for _ in range(repeats):
        a @ a
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def least_seconds(case: Case, trainer: Any, rate: float) -> float:
    """Time of the matrix products that no trainer can leave out, at the measured rate.

    Prompt once forward in sampling, once in the reference pass, and forward and backward (three
    forwards' worth) in the update; answers the same, and attention's products apart.
    """
    from vlrl.policy.vision_features import num_visual_tokens

    core = trainer.policy.module.core
    prompt = trainer.policy.encoder.encode(trainer.samples[0])
    text = sum(p.numel() for n, p in core.model.language_model.named_parameters()
               if p.dim() == 2 and "embed" not in n)  # fmt: skip
    vision = sum(p.numel() for p in core.model.visual.blocks.parameters() if p.dim() == 2)
    patches = num_visual_tokens(core, prompt.grid_thw) * 4
    answers = case.group_size * case.num_tokens
    once = 2.0 * (patches * vision + prompt.num_tokens * text) + 2.0 * answers * text
    return 5 * once / rate


def compare(case: Case, model: Path, repeats: int, plain: bool, rate: float) -> dict[str, Times]:
    """Alternate the trainers, then measure memory in one more step each; print the rows."""
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
            print(f"|  |  | limit | | | | {least:.2f} | {least / whole:.0%} of vlrl's | | |")
    sys.stdout.flush()
    return {"TRL": theirs, **{f"vlrl, {name}": times for name, (_, times) in ours.items()}}


def draw(results: dict[tuple[int, int], dict[str, Times]], path: Path) -> None:
    """Seconds a step against G as an SVG file, one line a trainer and prompt length."""
    from vlrl.log.charts import COLOURS, WIDTH, line_chart

    lines: dict[str, list[tuple[float, float]]] = {}
    for (length, group), found in results.items():
        for name, times in found.items():
            point = (float(group), times.median("step"))
            lines.setdefault(f"{name}, P = {length}", []).append(point)
    page = line_chart("A step against G", lines, "seconds")
    inside = page[page.index("<svg") : page.index("</svg>")].partition(">")[2]
    inside = inside.replace(">step<", "><")  # the chart's own axis is that of a training
    legend = "".join(
        f'<text x="60" y="{24 + 14 * n}" fill="{COLOURS[n % len(COLOURS)]}">{name}</text>'
        for n, name in enumerate(lines)
    )
    style = "<style>.grid{stroke:#d8dee4}</style>"
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    axis = '<text x="170" y="224">answers a group, G (seconds a step)</text>'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 230" '
        f'font-family="sans-serif" font-size="11">{style}{ground}{inside}{legend}{axis}</svg>\n',
        encoding="utf-8",
    )


def print_row(case: Case, name: str, times: Times, peer: Times) -> None:
    """Seconds by phase, the whole step's ratio, and the memory's."""
    cells = [f"{times.median(phase):.2f}" for phase in PHASES]
    faster = peer.median("step") / times.median("step")
    memory = times.peak_bytes / 2**20
    share = times.peak_bytes / max(1, peer.peak_bytes)
    print(
        f"| {case.num_visual} | {case.group_size} | {name} | {' | '.join(cells)} "
        f"| {faster:.2f}x | {memory:.0f} | {share:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--answer", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="also share_prompt: off")
    parser.add_argument("--svg", type=Path, help="write a plot of seconds against G")
    parser.add_argument("--skip-check", action="store_true")
    args = parser.parse_args()
    # The reward is named by module, as a user's own would be.
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = checkpoint(folder)
        if not args.skip_check:
            print(check_equal(Case(256, 4, args.answer, folder), model))
        rate = matmul_rate()
        threads = torch.get_num_threads()
        print(f"{rate / 1e9:.0f} GFLOP/s in plain matrix products, {threads} threads\n")
        heads = ("P", "G", "trainer", *(f"{p} s" for p in PHASES), "faster", "kept MiB", "share")
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        results: dict[tuple[int, int], dict[str, Times]] = {}
        for length in args.lengths:
            for group in args.groups:
                case = Case(length, group, args.answer, folder)
                found = compare(case, model, args.repeats, args.plain, rate)
                results[length, group] = found
                for path in folder.glob("ours-*"):
                    path.rename(folder / f"old-{path.name}-{time.time_ns()}")
        if args.svg is not None:
            draw(results, args.svg)


if __name__ == "__main__":
    main()
