"""TRL's trainer and this one, configured to do the same, for grpo_step.py."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for key, value in {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}.items():
    os.environ.setdefault(key, value)

import numpy as np
import torch
from on_device import wait
from PIL import Image

QUESTION = "Click: the button left of Save"
PHASES = ("sampling", "reference", "update", "step")
MAX_PIXELS = 12_845_056
"""Qwen2.5-VL's own; the embedded processor's limit is lower."""


def letters(rollout: Any) -> float:
    """A reward that differs from answer to answer."""
    return score(rollout.output)


def score(text: str) -> float:
    """Between 0 and 1, by the letters of the answer."""
    return (sum(ord(c) for c in text) % 17) / 17


@dataclass
class Case:
    """One comparison: visual tokens of the image, answers per group, tokens per answer."""

    num_visual: int
    group_size: int
    num_tokens: int
    folder: Path
    lr: float = 1e-4
    beta: float = 0.04
    device: str = "cpu"
    """cuda is in bf16 and recomputes activations in the backward pass (TRL's defaults)."""

    @property
    def on_gpu(self) -> bool:
        """Whether the case is the GPU's."""
        return self.device == "cuda"

    @property
    def image(self) -> Path:
        """A noisy image that becomes exactly that many visual tokens."""
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
    least_s: float = 0.0
    """See least_seconds in grpo_step.py."""

    def median(self, phase: str) -> float:
        """Over the steps, without the first one, which is the warm-up."""
        return median(self.seconds[phase][1:])


def checkpoint(folder: Path) -> Path:
    """The embedded model with a processor that takes large images."""
    source, target = ROOT / "assets/models/tiny_qwen2_5_vl", folder / "model"
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    file = target / "processor_config.json"
    data = json.loads(file.read_text())
    data["image_processor"]["size"]["longest_edge"] = MAX_PIXELS
    file.write_text(json.dumps(data))
    return target


# --- TRL -------------------------------------------------------------------------------------


def trl_settings(case: Case, num_steps: int) -> dict[str, Any]:
    """GRPO as in our_config: mean per answer, k3 KL, group z-score, clip 0.2, T = 1."""
    return {
        "output_dir": str(case.folder / "trl"),
        "use_cpu": not case.on_gpu,
        "bf16": case.on_gpu,
        "gradient_checkpointing": case.on_gpu,
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
    """TRL's GRPOTrainer on the one image."""
    from datasets import Dataset
    from transformers import AutoProcessor, PrinterCallback, Qwen2_5_VLForConditionalGeneration
    from trl import GRPOConfig, GRPOTrainer

    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    rows = [{"prompt": [{"role": "user", "content": content}]}] * (num_steps + 1)
    with Image.open(case.image) as opened:
        image = opened.convert("RGB")
    data = Dataset.from_list(rows).add_column("row", list(range(len(rows))))
    data = data.with_transform(lambda batch: {**batch, "image": [image] * len(batch["row"])})

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [score(chat[0]["content"]) for chat in completions]

    trainer = GRPOTrainer(
        model=Qwen2_5_VLForConditionalGeneration.from_pretrained(
            model, dtype=torch.bfloat16 if case.on_gpu else torch.float32
        ),
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
            wait()
            whole = time.perf_counter() - self.started
            times.seconds["step"].append(whole)
            times.seconds["reference"].append(sum(reference))
            times.seconds["update"].append(whole - prepared[-1])
            after_step()

    trainer.add_callback(Clock())
    trainer.train()


def timed(owner: Any, name: str, into: list[float], no_grad_only: bool = False) -> None:
    """Time every call of a method."""
    plain = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        wait()
        started = time.perf_counter()
        result = plain(*args, **kwargs)
        wait()
        if not (no_grad_only and torch.is_grad_enabled()):
            into.append(time.perf_counter() - started)
        return result

    setattr(owner, name, wrapped)


# --- ours ------------------------------------------------------------------------------------


def our_config(case: Case, model: Path, share: str) -> dict[str, Any]:
    """The run that equals trl_settings."""
    row = {"id": "a", "image": str(case.image), "instruction": QUESTION, "bbox": [1, 1, 9, 9]}
    with Image.open(case.image) as image:
        row["image_size"] = list(image.size)
    data = case.folder / f"{case.num_visual}.jsonl"
    data.write_text(json.dumps(row) + "\n")
    return {
        "name": f"ours-{share}-{case.num_visual}-{case.group_size}",
        "out": str(case.folder),
        "task": {
            "use": "gui_grounding",
            "prompt": "{instruction}",
            "max_pixels": MAX_PIXELS,
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
                 "precision": "bf16" if case.on_gpu else "fp32",
                 "gradient_checkpointing": case.on_gpu,
                 # One chunk, as TRL has one batch, also without sharing; with room for text.
                 "max_tokens_per_chunk": case.group_size
                 * (case.num_visual + case.num_tokens + 64)},
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
    metrics = trainer.train_step()
    wait()
    times.seconds["step"].append(time.perf_counter() - started)
    for phase in ("sampling", "reference", "update"):
        times.seconds[phase].append(metrics[f"time/{phase}_s"])
